//! The demo's database, compared with the truth, and asked a question.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use pipeline_engine::{Damage, Status};
use pipeline_simulator::Truth;
use rusqlite::{Connection, OpenFlags, Result as SqlResult};

use crate::exit::{Exit, Failure, Result};
use crate::output::table::{Align, TextTable};
use crate::units;

/// Vendors' names for what identifies a record, in the order in which they are looked for.
const IDS: [&str; 4] = ["id", "insert_id", "$insert_id", "distinct_id"];

const QUESTION: &str = "
    SELECT customer.email, customer.revenue, count(ticket.id)
    FROM (SELECT c.email, sum(p.amount - p.amount_refunded) AS revenue
          FROM payments_charges p JOIN payments_customers c ON c.id = p.customer
          WHERE p.paid GROUP BY c.email) customer
    JOIN support_users user ON user.email = customer.email
    LEFT JOIN support_tickets ticket ON ticket.requester_id = user.id
    GROUP BY customer.email ORDER BY customer.revenue DESC LIMIT 5";

/// What was found.
pub(super) struct Verdict {
    tables: usize,
    rows: u64,
    wrong: Vec<String>,
}

impl Verdict {
    pub(super) fn is_exact(&self) -> bool {
        self.wrong.is_empty() && self.tables > 0
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.wrong {
            let _ = writeln!(text, "   WRONG  {line}");
        }
        if self.is_exact() {
            let _ = writeln!(
                text,
                "   {} tables, {} rows: every record is there exactly once.",
                self.tables,
                units::number(self.rows)
            );
        }
        text
    }
}

/// Refuses a database that the demo did not write, so that nothing of the user's is overwritten.
pub(super) fn is_demo(database: &Path) -> Result<()> {
    let commits = open(database).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM _pipeline_commits", [], |row| {
            row.get::<_, i64>(0)
        })
    });
    commits.map(drop).map_err(|_| {
        Failure::usage(
            format!("{} was not written by the demo", database.display()),
            "move it, or run the demo in another folder",
        )
    })
}

/// Compares the ids in every table that the truth knows.
pub(super) fn compare(database: &Path, truth: &Truth) -> Result<Verdict> {
    let compared = open(database).and_then(|connection| {
        let mut verdict = Verdict {
            tables: 0,
            rows: 0,
            wrong: Vec::new(),
        };
        for (table, stream) in tables(&connection)? {
            if truth.tables().contains(&stream.as_str()) {
                let found = ids(&connection, &table)?;
                let expected = truth.ids(&stream);
                verdict.tables += 1;
                verdict.rows += found.len() as u64;
                verdict.wrong.extend(difference(&table, &found, &expected));
            }
        }
        Ok(verdict)
    });
    compared.map_err(failed)
}

/// Compares the number of rows of every table that the truth knows, and adds what the destination
/// itself finds to be damaged.
pub(super) fn count(status: &Status, damages: &[Damage], truth: &Truth) -> Verdict {
    let mut verdict = Verdict {
        tables: 0,
        rows: 0,
        wrong: damages.iter().map(|damage| damage.what.clone()).collect(),
    };
    for (table, rows) in &status.rows {
        if truth.tables().contains(&table.stream.as_str()) {
            let expected = truth.count(&table.stream);
            verdict.tables += 1;
            verdict.rows += rows;
            if *rows != expected {
                verdict.wrong.push(format!(
                    "{}.{}: {} rows instead of {}",
                    table.source,
                    table.stream,
                    units::number(*rows),
                    units::number(expected)
                ));
            }
        }
    }
    verdict
}

fn difference(table: &str, found: &[String], expected: &[String]) -> Option<String> {
    if found == expected {
        return None;
    }
    let (distinct, wanted): (BTreeSet<_>, BTreeSet<_>) =
        (found.iter().collect(), expected.iter().collect());
    let (missing, surplus) = (
        wanted.difference(&distinct).count(),
        distinct.difference(&wanted).count(),
    );
    Some(format!(
        "{table}: {missing} missing, {surplus} unknown, {} duplicated",
        found.len() - distinct.len()
    ))
}

/// Who pays most, and how often they ask for help.
pub(super) fn question(database: &Path) -> Result<String> {
    let answered = open(database).and_then(|connection| {
        let mut table = TextTable::new([
            ("   CUSTOMER", Align::Left),
            ("REVENUE", Align::Right),
            ("TICKETS", Align::Right),
        ]);
        let mut statement = connection.prepare(QUESTION)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (email, cents, tickets): (String, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            table.row([
                format!("   {email}"),
                money(cents),
                units::number(tickets.unsigned_abs()),
            ]);
        }
        Ok(table.render())
    });
    answered.map_err(failed)
}

fn money(cents: i64) -> String {
    format!(
        "{}.{:02}",
        units::number(cents.unsigned_abs() / 100),
        cents.unsigned_abs() % 100
    )
}

fn open(database: &Path) -> SqlResult<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Every table with its stream's name.
fn tables(connection: &Connection) -> SqlResult<Vec<(String, String)>> {
    let mut statement =
        connection.prepare("SELECT name, stream FROM _pipeline_tables ORDER BY name")?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn ids(connection: &Connection, table: &str) -> SqlResult<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns: Vec<String> = statement
        .query_map([table], |row| row.get(0))?
        .collect::<SqlResult<_>>()?;
    let id = IDS
        .into_iter()
        .find(|id| columns.iter().any(|column| column == id))
        .unwrap_or("rowid");
    let mut statement = connection.prepare(&format!(
        "SELECT CAST(\"{id}\" AS TEXT) FROM \"{table}\" ORDER BY 1"
    ))?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn failed(error: rusqlite::Error) -> Failure {
    Failure::new(
        Exit::Destination,
        format!("the demo's database cannot be read: {error}"),
        None,
    )
}
