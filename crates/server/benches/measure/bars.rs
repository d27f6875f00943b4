//! What must hold of the figures: a bar is a number that the measured one may not exceed.

struct Bar {
    what: String,
    measured: f64,
    most: f64,
}

/// The bars of a command.
#[derive(Default)]
pub(crate) struct Bars(Vec<Bar>);

impl Bars {
    /// `measured` may be `most`, and not more.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, measured: f64, most: f64) {
        self.0.push(Bar { what: what.into(), measured, most });
    }

    pub(crate) fn all_hold(&self) -> bool {
        self.0.iter().all(Bar::holds)
    }

    pub(crate) fn print(&self) {
        println!();
        for bar in &self.0 {
            let verdict = if bar.holds() { "PASS" } else { "FAIL" };
            println!("{verdict}  {}: {:.2}, at most {:.2}", bar.what, bar.measured, bar.most);
        }
    }
}

impl Bar {
    /// Written so that what is not a number does not hold.
    fn holds(&self) -> bool {
        self.measured <= self.most
    }
}
