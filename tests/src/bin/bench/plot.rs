//! A picture of each workload: a panel for every number, in it a bar for the median of everybody who did the work, and
//! a dot for each round.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoSegmentedCoord, RGBColor, Rectangle, SVGBackend,
        SegmentValue, WHITE,
    },
    style::Color,
};

use crate::workload::{OURS, Outcome};

const WIDTH: u32 = 800;
const TITLE: u32 = 40;
/// Of a panel: what it takes, and what everybody in it takes.
const PANEL: u32 = 60;
const BAR: u32 = 26;
const OURS_COLOUR: RGBColor = RGBColor(21, 66, 115);
const OTHERS_COLOUR: RGBColor = RGBColor(160, 160, 160);

/// Everybody's median and rounds of one number.
#[derive(Debug)]
struct Panel<'a> {
    what: &'a str,
    bars: Vec<(&'a str, f64, Vec<f64>)>,
}

fn panels(outcome: &Outcome) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for (who, what, median) in outcome.medians.iter() {
        let rounds = outcome.rounds.iter().filter_map(|round| round.get(who, what)).collect();
        let bar = (who, median, rounds);
        match panels.iter_mut().find(|panel| panel.what == what) {
            Some(panel) => panel.bars.push(bar),
            None => panels.push(Panel { what, bars: vec![bar] }),
        }
    }
    panels
}

impl Panel<'_> {
    fn height(&self) -> u32 {
        PANEL + BAR * self.bars.len() as u32
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> anyhow::Result<()> {
        let all = self.bars.iter().flat_map(|(_, median, rounds)| rounds.iter().chain([median]));
        // Room beyond the longest, and some where all are nothing.
        let most = all.copied().fold(f64::MIN_POSITIVE, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(area);
        chart.caption(self.what, ("sans-serif", 15)).margin_left(8).margin_right(24);
        chart.x_label_area_size(22).y_label_area_size(100);
        let mut chart = chart.build_cartesian_2d(0.0..most, (0..self.bars.len()).into_segmented()).map_err(unseen)?;
        let name = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(place) => self.bars.get(*place).map_or("", |(who, ..)| *who).to_owned(),
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().light_line_style(WHITE).label_style(("sans-serif", 12));
        mesh.y_labels(self.bars.len()).y_label_formatter(&name).draw().map_err(unseen)?;
        for (place, (who, median, rounds)) in self.bars.iter().enumerate() {
            let colour = if *who == OURS { OURS_COLOUR } else { OTHERS_COLOUR };
            let corners = [(0.0, SegmentValue::Exact(place)), (*median, SegmentValue::Exact(place + 1))];
            let mut bar = Rectangle::new(corners, colour.filled());
            bar.set_margin(4, 4, 0, 0);
            chart.draw_series([bar]).map_err(unseen)?;
            let dot = |round: &f64| Circle::new((*round, SegmentValue::CenterOf(place)), 2, BLACK.filled());
            chart.draw_series(rounds.iter().map(dot)).map_err(unseen)?;
        }
        Ok(())
    }
}

/// What the drawing library says, which borrows from what is drawn.
fn unseen(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture could not be drawn: {error}")
}

/// Draws it into this directory, as `W1-nothing-to-sync….svg`, and gives its path.
pub(crate) fn draw(dir: &Path, outcome: &Outcome) -> anyhow::Result<PathBuf> {
    let name: String = outcome.about.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = dir.join(format!("{}-{name}.svg", outcome.code));
    let panels = panels(outcome);
    let height = TITLE + panels.iter().map(Panel::height).sum::<u32>();
    let root = SVGBackend::new(&path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(unseen)?;
    let title = format!("{}: {}", outcome.code, outcome.about);
    let mut rest = root.titled(&title, ("sans-serif", 18)).map_err(unseen)?;
    for panel in &panels {
        let (area, below) = rest.split_vertically(panel.height());
        panel.draw(&area)?;
        rest = below;
    }
    root.present().map_err(unseen)?;
    drop((rest, root));
    Ok(path)
}
