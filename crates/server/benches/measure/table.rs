//! Tables in the form that documents take, aligned so that a terminal shows them too.

/// Rows of cells under a head.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&cell| cell.to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.0[0].len(), "every row has a cell for each column");
        self.0.push(cells);
    }

    pub(crate) fn print(&self) {
        let columns = self.0[0].len();
        let width = |column: usize| self.0.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        println!();
        for (number, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
            println!("|{}", cells.collect::<String>());
            if number == 0 {
                let dashes = widths.iter().map(|&width| "-".repeat(width + 2) + "|");
                println!("|{}", dashes.collect::<String>());
            }
        }
        println!();
    }
}

/// Bytes in mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The middle one, or of two in the middle the upper one; the largest.
pub(crate) fn median_and_worst(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.get(figures.len() / 2).copied();
    (middle.unwrap_or(f64::NAN), figures.last().copied().unwrap_or(f64::NAN))
}
