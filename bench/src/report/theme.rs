//! Colours of plots and page, in light and dark.
//!
//! Plots are drawn in the light ones. In the page each of these gives way to a variable, which the reader's preference
//! sets.

/// A colour in both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colour {
    /// The variable of the page's style.
    pub name: &'static str,
    pub light: (u8, u8, u8),
    pub dark: (u8, u8, u8),
}

const fn colour(name: &'static str, light: u32, dark: u32) -> Colour {
    Colour { name, light: parts(light), dark: parts(dark) }
}

const fn parts(rgb: u32) -> (u8, u8, u8) {
    let [_, red, green, blue] = rgb.to_be_bytes();
    (red, green, blue)
}

/// What plots lie on.
pub(super) const PAPER: Colour = colour("paper", 0xFF_FF_FE, 0x16_1B_22);
/// Titles and axes.
pub(super) const INK: Colour = colour("ink", 0x1F_23_28, 0xE6_ED_F3);
/// Labels.
pub(super) const MUTED: Colour = colour("muted", 0x57_60_6A, 0x9D_A7_B3);
/// Lines at the axes' labels.
pub(super) const GRID: Colour = colour("grid", 0xC9_D1_D9, 0x3A_42_4C);
/// Lines between them.
pub(super) const FAINT: Colour = colour("faint", 0xE9_ED_F1, 0x24_2B_33);

/// One for each server: of Okabe and Ito's, whom colour blindness does not deceive, as dark or light as their
/// background asks for. Neighbors differ in brightness too, and each has a marker of its own.
pub(super) const SERIES: [Colour; 8] = [
    colour("s0", 0x00_72_B2, 0x4C_A8_EE),
    colour("s1", 0xD5_5E_00, 0xFF_8A_3D),
    colour("s2", 0x00_85_62, 0x2F_CF_9F),
    colour("s3", 0xA8_4C_84, 0xE0_8F_C3),
    colour("s4", 0x94_6C_00, 0xE8_BC_3A),
    colour("s5", 0x3B_3F_A0, 0xA5_A9_FF),
    colour("s6", 0x2B_8F_C4, 0x8F_DC_FF),
    colour("s7", 0x6B_6F_76, 0xB9_C0_C8),
];

/// All that plots are drawn in.
pub(super) fn all() -> impl Iterator<Item = Colour> {
    [PAPER, INK, MUTED, GRID, FAINT].into_iter().chain(SERIES)
}

/// As SVG and CSS write it.
pub(super) fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn lines_stand_out_by_3_to_1_and_text_by_4_5_to_1_in_light_and_dark() {
        for (colours, least) in [(&SERIES[..], 3.0), (&[INK, MUTED], 4.5)] {
            for colour in colours {
                let found = (contrast(colour.light, PAPER.light), contrast(colour.dark, PAPER.dark));
                assert!(found.0 >= least && found.1 >= least, "{}: {found:?}", colour.name);
            }
        }
    }

    #[test]
    fn no_colour_is_another_ones() {
        let colours = || all().map(|colour| hex(colour.light));
        assert_eq!(colours().collect::<BTreeSet<_>>().len(), colours().count());
    }
}
