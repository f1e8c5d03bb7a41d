//! Bars over the last runs, as SVG without a script.

use maud::{Markup, html};

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 56.0;

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) value: f64,
    /// What is shown of it when it is pointed at, and read out.
    pub(super) title: String,
    /// Class of its color; empty for the usual one.
    pub(super) class: &'static str,
}

/// The bars, the oldest first, in a place that has room for `room` of them.
pub(super) fn bars(caption: &str, largest: &str, bars: &[Bar], room: usize) -> Markup {
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "tens of bars")]
    let step = WIDTH / room.max(bars.len()).max(1) as f64;
    let shape = |index: usize, bar: &Bar| {
        let part = if most > 0.0 { bar.value / most } else { 0.0 };
        // A run with nothing is still a run.
        let height = (part * HEIGHT).max(1.5);
        #[expect(clippy::cast_precision_loss, reason = "tens of bars")]
        let x = index as f64 * step;
        html! {
            rect class={ "bar " (bar.class) }
                x=(format!("{:.1}", x + step * 0.1)) y=(format!("{:.1}", HEIGHT - height))
                width=(format!("{:.1}", step * 0.8)) height=(format!("{height:.1}")) {
                title { (bar.title) }
            }
        }
    };
    html! {
        figure {
            figcaption { (caption) ", at most " (largest) }
            svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (caption) ", at most " (largest) } {
                line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
                @for (index, bar) in bars.iter().enumerate() { (shape(index, bar)) }
            }
        }
    }
}
