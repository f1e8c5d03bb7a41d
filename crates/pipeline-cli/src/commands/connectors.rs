//! `pipeline connectors`: one line each.

use serde_json::Value;

use crate::console::Console;
use crate::exit::Exit;
use crate::output::table::{Align, TextTable};
use crate::{connectors, schema};

pub(super) fn run(console: &Console) -> Exit {
    let registry = connectors::registry();
    let mut table = TextTable::new([
        ("CONNECTOR", Align::Left),
        ("NEEDS", Align::Left),
        ("READS", Align::Left),
    ]);
    for name in registry.names() {
        let spec = registry.spec(name).unwrap_or(&Value::Null);
        let required = schema::properties(spec)
            .into_iter()
            .filter(|property| property.required)
            .map(|property| property.name);
        let needs = required.collect::<Vec<_>>().join(", ");
        table.row([
            name.to_owned(),
            needs,
            registry.reads(name).unwrap_or_default().to_owned(),
        ]);
    }
    console.print(&format!(
        "{}\n`pipeline spec CONNECTOR` prints every setting; `pipeline init` writes a \
         configuration.",
        table.render()
    ));
    Exit::Done
}
