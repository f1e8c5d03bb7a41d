//! Tables of plain text without borders.

use comfy_table::{CellAlignment, presets};

/// Space between columns, in characters.
const GAP: u16 = 2;

/// A table with a header; columns are as wide as their longest cell.
#[derive(Debug)]
pub(crate) struct TextTable(comfy_table::Table);

/// Which side of its column a cell stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

impl From<Align> for CellAlignment {
    fn from(align: Align) -> Self {
        match align {
            Align::Left => Self::Left,
            Align::Right => Self::Right,
        }
    }
}

impl TextTable {
    /// A table without rows.
    pub(crate) fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        let (names, aligns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(names);
        for (column, align) in table.column_iter_mut().zip(aligns) {
            column
                .set_padding((0, GAP))
                .set_cell_alignment(align.into());
        }
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// The table as text, one line a row.
    pub(crate) fn render(&self) -> String {
        self.0.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = TextTable::new([
            ("STREAM", Align::Left),
            ("ROWS", Align::Right),
            ("NOTE", Align::Left),
        ]);
        table.row(["charges", "12 000", ""].map(str::to_owned));
        table.row(["é", "7", "x"].map(str::to_owned));
        assert_eq!(
            table.render(),
            "STREAM     ROWS  NOTE\ncharges  12 000\né             7  x\n"
        );
        table.row(["  東京", "5", "z"].map(str::to_owned));
        assert!(
            table.render().ends_with("\n  東京        5  z\n"),
            "{}",
            table.render()
        );
    }
}
