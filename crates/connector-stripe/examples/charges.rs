//! Reads all charges of an account into a struct of one's own.
//!
//! `STRIPE_API_KEY=rk_test_… cargo run -p connector-stripe --example charges`
#![expect(clippy::print_stdout, reason = "printing is what the example does")]

use connector_stripe::{Stripe, StripeConfig};
use futures::TryStreamExt;
use pipeline_core::slice::TimeRange;
use pipeline_core::{BuildContext, ConnectorExt};

#[derive(Debug, serde::Deserialize)]
struct Charge {
    id: String,
    amount: i64,
    currency: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = StripeConfig::new(std::env::var("STRIPE_API_KEY")?);
    let stripe = Stripe::new(config, BuildContext::default())?;
    let mut charges = stripe.typed::<Charge>("charges", TimeRange::all());
    while let Some(charge) = charges.try_next().await? {
        println!("{} {} {}", charge.id, charge.amount, charge.currency);
    }
    Ok(())
}
