//! The Help Centers of several brands. The account's own host shows the first brand's; those of the
//! others are at hosts of their own, which are paths here: `/brand/{subdomain}/api/v2/…`.

use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{close, open};
use super::query::Query;
use crate::server::Service;
use crate::world::{Row, World};

/// The brand whose host a path is of, and the rest of the path. None: no brand has this subdomain.
pub(super) fn of_path<'p>(service: &Service, path: &'p str) -> Option<(usize, &'p str)> {
    let Some((subdomain, _)) = path
        .strip_prefix("/brand/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return Some((0, path));
    };
    let brand = service
        .simulation
        .zendesk
        .brands
        .iter()
        .position(|brand| brand == subdomain)?;
    Some((brand, &path["/brand/".len() + subdomain.len()..]))
}

/// Whether a host shows a record: of the Help Centers' records each belongs to one brand, and what
/// belongs to it as well.
pub(super) fn shows(service: &Service, query: &Query, row: Row) -> bool {
    let (world, brands) = (&*service.world, service.simulation.zendesk.brands.len());
    let is_of_brand = brands > 1
        && world.tables[row.table]
            .list
            .as_ref()
            .is_some_and(|list| list.help_center);
    !is_of_brand || brand_of(world, row, brands) == query.brand
}

/// The brand that a record belongs to, by its place among the account's.
pub(crate) fn brand_of(world: &World, row: Row, brands: usize) -> usize {
    match world.parent(row) {
        Some(parent) => brand_of(world, parent, brands),
        None => usize::try_from(row.index).unwrap_or(0) % brands.max(1),
    }
}

/// The list of brands, all of which have a Help Center.
pub(super) fn list(service: &Service, table: usize) -> Response {
    let world = &*service.world;
    let brand = |(index, subdomain): (u64, &String)| {
        let mut text = Vec::new();
        world.write(Row { table, index }, &[], &mut text);
        let mut brand: Value = serde_json::from_slice(&text).unwrap_or_default();
        let url = if index == 0 {
            service.url()
        } else {
            format!("{}/brand/{subdomain}", service.url())
        };
        let told = [
            ("active", json!(true)),
            ("brand_url", json!(url)),
            ("default", json!(index == 0)),
            ("has_help_center", json!(true)),
            ("help_center_state", json!("enabled")),
            ("name", json!(subdomain)),
            ("subdomain", json!(subdomain)),
        ];
        for (member, value) in told {
            brand[member] = value;
        }
        brand.to_string()
    };
    let brands: Vec<String> = (0..)
        .zip(&service.simulation.zendesk.brands)
        .map(brand)
        .collect();
    let mut body = open("brands");
    body.extend_from_slice(brands.join(",").as_bytes());
    close(
        body,
        &json!({ "meta": { "has_more": false, "after_cursor": null, "before_cursor": null }, "links": { "next": null, "prev": null } }),
    )
}
