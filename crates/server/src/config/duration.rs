//! Durations as etcd's flags have them, which is as Go writes them: `10m`, `1h30m`, `1.5s`, `100ms`.

/// Digits that a part of a duration may have: more than any sensible one needs.
const DIGITS_MAX: usize = 15;

/// Milliseconds, rounded down; nothing where it is no duration, or a negative one.
pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total_us = 0_u64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let unit_us = match unit {
            "h" => 3_600_000_000,
            "m" => 60_000_000,
            "s" => 1_000_000,
            "ms" => 1000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1,
            _ => return None,
        };
        total_us = total_us.checked_add(part_us(number, unit_us)?)?;
        rest = next;
    }
    if text.is_empty() { None } else { Some(total_us / 1000) }
}

/// A number with or without a fraction, of a unit of so many microseconds.
fn part_us(number: &str, unit_us: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || number.len() > DIGITS_MAX {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut us = whole.checked_mul(unit_us)?;
    let mut digit_us = unit_us;
    for digit in fraction.chars() {
        digit_us /= 10;
        us = us.checked_add(u64::from(digit.to_digit(10)?) * digit_us)?;
    }
    Some(us)
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
            ("0", 0),
        ];
        for (text, ms) in read {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        let wrong = ["", "5", "s", "-5s", "5 s", "1.2.3s", "5d", "99999999999999999h", ".s", "5s5"];
        for text in wrong {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }
}
