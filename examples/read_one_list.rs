//! Reads all charges of an account into a type of your own.
//!
//! `STRIPE_API_KEY=rk_test_… cargo run -p pipeline-examples --example read_one_list`

use std::env;
use std::io::{self, Write};
use std::sync::Arc;

use connector_stripe::{StripeConfig, StripeConnector};
use futures::TryStreamExt;
use pipeline_core::slice::TimeRange;
use pipeline_core::{BuildContext, Connector, SessionExt};

/// The members that this program needs. All others are skipped.
#[derive(Debug, serde::Deserialize)]
struct Charge {
    id: String,
    amount: i64,
    currency: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = StripeConfig::new(env::var("STRIPE_API_KEY")?);
    if let Ok(url) = env::var("STRIPE_BASE_URL") {
        config.base_url = url;
    }
    print_charges(config, &mut io::stdout()).await
}

/// Writes a line for each charge, as the pages arrive.
pub(crate) async fn print_charges(
    config: StripeConfig,
    out: &mut impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let stripe = Arc::new(StripeConnector::new(config, BuildContext::new("stripe"))?);
    let run = stripe.open(&["charges"]).await?;
    let mut charges = run.typed::<Charge>("charges", TimeRange::all());
    while let Some(charge) = charges.try_next().await? {
        writeln!(out, "{} {} {}", charge.id, charge.amount, charge.currency)?;
    }
    Ok(())
}
