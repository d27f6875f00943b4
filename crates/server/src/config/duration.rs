//! Durations as etcd's flags have them, which is as Go writes them: `10m`, `1h30m`, `1.5s`, `100ms`.

/// Digits that a part of a duration may have: more than any sensible one needs.
const DIGITS_MAX: usize = 15;
const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// Milliseconds, rounded down; nothing where it is no duration, a negative one, or one of centuries.
pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total_ns = 0_u64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let unit_ns = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
            "ns" => 1,
            _ => return None,
        };
        total_ns = total_ns.checked_add(part_ns(number, unit_ns)?)?;
        rest = next;
    }
    if text.is_empty() { None } else { Some(total_ns / NANOSECONDS_A_MILLISECOND) }
}

/// A number with or without a fraction, of a unit of so many nanoseconds.
fn part_ns(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || number.len() > DIGITS_MAX {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut ns = whole.checked_mul(unit_ns)?;
    let mut digit_ns = unit_ns;
    for digit in fraction.chars() {
        digit_ns /= 10;
        ns = ns.checked_add(u64::from(digit.to_digit(10)?) * digit_ns)?;
    }
    Some(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let read = [
            ("10m", 600_000),
            ("5s", 5000),
            ("100ms", 100),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            (".5s", 500),
            ("1.s", 1000),
            ("+2s", 2000),
            ("999us", 0),
            ("5000\u{b5}s", 5),
            ("5000000000ns", 5000),
            ("0", 0),
        ];
        for (text, ms) in read {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        let wrong =
            ["", "5", "s", "-5s", "1e3s", "5 s", "1.2.3s", "5d", "99999999999999999h", ".s", "5s5"];
        for text in wrong {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }
}
