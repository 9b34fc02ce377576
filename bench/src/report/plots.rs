//! Draws a plot as SVG.
//!
//! ```text
//!   title
//!   +------------------------+   -o- server        drawn larger than it is shown,
//!   |                        |   -^- server        because the backend rounds to whole
//!   +------------------------+   --- what          points
//!         x, with unit           - - what
//! ```

use plotters::coord::Shift;
use plotters::prelude::*;

use super::axis::Axis;
use super::theme::{self, Colour, FAINT, GRID, INK, MUTED, PAPER};
use crate::error::{Context, Result};

/// Width and height.
pub(super) const SIZE: (u32, u32) = (1720, 820);
/// Where the legend begins.
const LEGEND: i32 = 1290;
const TOP: i32 = 80;
const FONT: &str = "sans-serif";
/// The backend writes sizes divided by this.
const SCALE: f64 = 1.24;

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// Of file names and of the page's anchors.
    pub id: String,
    pub title: String,
    /// What was measured, in a sentence.
    pub caption: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// What solid and dashed lines are, where there are both.
    pub styles: Option<[&'static str; 2]>,
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub name: String,
    /// By the server's place in the table; `None` is no server.
    pub server: Option<usize>,
    pub dashed: bool,
    pub points: Vec<(f64, f64)>,
    /// Points with a marker: filled, or hollow where the generator was the limit.
    pub marks: Vec<(f64, f64, bool)>,
}

impl Series {
    fn colour(&self) -> RGBColor {
        rgb(self.server.map_or(MUTED, |server| theme::SERIES[server % theme::SERIES.len()]))
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// The plot as an SVG document in light colours.
///
/// # Errors
/// What the backend says.
pub(super) fn svg(plot: &Plot) -> Result<String> {
    let mut text = String::new();
    draw(plot, &SVGBackend::with_string(&mut text, SIZE).into_drawing_area())
        .context(|| format!("cannot draw {}", plot.id))?;
    Ok(text)
}

fn draw(plot: &Plot, root: &Area<'_>) -> Drawn {
    root.fill(&rgb(PAPER))?;
    let heading = (FONT, 34.0 * SCALE).into_font().style(FontStyle::Bold).color(&rgb(INK));
    root.draw(&Text::new(plot.title.clone(), (36, 22), heading))?;
    let (field, legend) = root.split_horizontally(LEGEND);
    draw_field(plot, &field)?;
    draw_legend(plot, &legend)?;
    Ok(root.present()?)
}

fn draw_field(plot: &Plot, field: &Area<'_>) -> Drawn {
    let Plot { x, y, series, .. } = plot;
    let mut chart = ChartBuilder::on(field)
        .margin_top(TOP)
        .margin_right(30)
        .margin_bottom(16)
        .margin_left(16)
        .x_label_area_size(96)
        .y_label_area_size(150)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .bold_line_style(rgb(GRID).stroke_width(2))
        .light_line_style(rgb(FAINT).stroke_width(2))
        .axis_style(rgb(MUTED).stroke_width(2))
        .label_style(font(26.0, MUTED))
        .axis_desc_style(font(28.0, INK))
        .x_desc(x.label.clone())
        .y_desc(y.label.clone())
        .draw()?;
    for line in series {
        let points = line.points.iter().copied();
        let style = line.colour().stroke_width(4);
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 12, 9, style))?;
        } else {
            chart.draw_series(LineSeries::new(points, style))?;
        }
        for (a, b, filled) in &line.marks {
            draw_mark(chart.plotting_area(), (*a, *b), line, *filled)?;
        }
    }
    Ok(())
}

type Field<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// A marker whose shape tells the server too.
fn draw_mark(field: &Field<'_>, place: (f64, f64), line: &Series, filled: bool) -> Drawn {
    let inside = if filled { line.colour() } else { rgb(PAPER) };
    let shape = shape(line.server);
    let outline: Vec<(i32, i32)> = shape.iter().chain(&shape[..1]).copied().collect();
    field.draw(
        &(EmptyElement::at(place)
            + Polygon::new(shape, inside)
            + PathElement::new(outline, line.colour().stroke_width(3))),
    )?;
    Ok(())
}

/// Corners around a point.
fn shape(server: Option<usize>) -> Vec<(i32, i32)> {
    const R: f64 = 9.0;
    // Corners, and where the first stands, in parts of a turn.
    let (corners, turn) = match server.unwrap_or(0) % theme::SERIES.len() {
        0 => (16, 0.0),
        1 => (4, 0.125),
        2 => (3, 0.75),
        3 => (4, 0.0),
        4 => (3, 0.25),
        5 => (5, 0.75),
        6 => (6, 0.0),
        _ => (8, 0.0625),
    };
    let r = if corners < 5 { R * 1.2 } else { R };
    (0..corners)
        .map(|corner| {
            let angle = (f64::from(corner) / f64::from(corners) + turn) * std::f64::consts::TAU;
            ((angle.cos() * r).round() as i32, (angle.sin() * r).round() as i32)
        })
        .collect()
}

/// The servers' names, and what the two kinds of lines are.
fn draw_legend(plot: &Plot, legend: &Area<'_>) -> Drawn {
    let mut y = TOP + 16;
    let mut entry = |text: &str, line: &Series, marked: bool| -> Drawn {
        let style = line.colour().stroke_width(4);
        let ends = if line.dashed { vec![(0, 20), (32, 44), (56, 64)] } else { vec![(0, 64)] };
        for (from, to) in ends {
            legend.draw(&PathElement::new(vec![(from, y), (to, y)], style))?;
        }
        if marked {
            let at = |shape: Vec<(i32, i32)>| shape.into_iter().map(|(dx, dy)| (32 + dx, y + dy)).collect::<Vec<_>>();
            legend.draw(&Polygon::new(at(shape(line.server)), line.colour()))?;
        }
        let middle = plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Left,
            plotters::style::text_anchor::VPos::Center,
        );
        legend.draw(&Text::new(text.to_owned(), (80, y), font(26.0, INK).into_text_style(legend).pos(middle)))?;
        y += 46;
        Ok(())
    };
    let mut told = Vec::new();
    for line in &plot.series {
        if told.contains(&&line.name) {
            continue;
        }
        told.push(&line.name);
        // Where dashed lines are told apart by kind, the server's entry is its solid one.
        let line = if plot.styles.is_some() { &Series { dashed: false, ..line.clone() } } else { line };
        entry(&line.name, line, !line.marks.is_empty())?;
    }
    for (text, dashed) in plot.styles.iter().flatten().zip([false, true]) {
        let line = Series { name: String::new(), server: None, dashed, points: Vec::new(), marks: Vec::new() };
        entry(text, &line, false)?;
    }
    Ok(())
}

fn font(size: f64, colour: Colour) -> TextStyle<'static> {
    (FONT, size * SCALE).into_font().color(&rgb(colour))
}

fn rgb(colour: Colour) -> RGBColor {
    let (red, green, blue) = colour.light;
    RGBColor(red, green, blue)
}
