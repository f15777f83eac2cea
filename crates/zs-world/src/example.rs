//! A piece of training text: which parts of it a model learns to write.

/// A part of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// True if a model learns to write the part; other parts are shown without loss.
    pub learned: bool,
}

/// One training sequence as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The parts, in order.
    pub segments: Vec<Segment>,
    /// True if the model learns to stop after the last part.
    pub ends: bool,
}

impl Example {
    /// An example that ends after its last part.
    #[must_use]
    pub fn ending() -> Self {
        Self { segments: Vec::new(), ends: true }
    }

    /// Adds text that is only shown.
    pub fn show(&mut self, text: impl Into<String>) {
        self.segments.push(Segment { text: text.into(), learned: false });
    }

    /// Adds text that is learned.
    pub fn learn(&mut self, text: impl Into<String>) {
        self.segments.push(Segment { text: text.into(), learned: true });
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        self.segments.iter().map(|it| it.text.as_str()).collect()
    }
}
