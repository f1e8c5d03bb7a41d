//! `pipeline connectors`: one line each.

use serde_json::Value;

use crate::connectors;
use crate::console::Console;
use crate::exit::Exit;
use crate::output::table::{Align, Table};
use crate::schema;

pub(super) fn run(console: &Console) -> Exit {
    let registry = connectors::registry();
    let mut table = Table::new([("CONNECTOR", Align::Left), ("NEEDS", Align::Left), ("ABOUT", Align::Left)]);
    for name in registry.names() {
        let spec = registry.spec(name).unwrap_or(&Value::Null);
        let required = schema::properties(spec).into_iter().filter(|property| property.required).map(|property| property.name);
        let needs = required.collect::<Vec<_>>().join(", ");
        let about = spec["description"].as_str().map_or("", schema::first_sentence);
        table.row([name.to_owned(), needs, about.replace('\n', " ")]);
    }
    console.print(&format!("{}\n`pipeline spec CONNECTOR` prints every member; `pipeline init` writes a configuration.", table.render()));
    Exit::Done
}
