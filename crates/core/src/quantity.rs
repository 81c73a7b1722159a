//! Durations (`"1h30m"`) and sizes (`"512MiB"`) as they are written in configuration.

use std::time::Duration;

/// Text that is no duration or size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotAQuantity {
    /// Neither `90s` nor `10m` nor `1h30m` nor `300ms` nor `90d`.
    #[error("not a duration; write \"300ms\", \"90s\", \"10m\", \"1h30m\" or \"90d\"")]
    Duration,
    /// Neither `64KiB` nor `512MiB` nor `1GiB` nor a count of bytes.
    #[error("not a size; write \"64KiB\", \"512MiB\" or \"1GiB\"")]
    Size,
    /// More than fits.
    #[error("too large")]
    TooLarge,
}

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration: numbers with a unit of `d h m s ms`, each at most once, largest first.
pub fn parse_duration(text: &str) -> Result<Duration, NotAQuantity> {
    let mut rest = text.trim();
    let mut units = DURATIONS.as_slice();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(NotAQuantity::Duration);
    }
    while !rest.is_empty() {
        let (number, unit, after) = split(rest).ok_or(NotAQuantity::Duration)?;
        let at = units.iter().position(|(u, _)| *u == unit).ok_or(NotAQuantity::Duration)?;
        let part = number?.checked_mul(units[at].1).ok_or(NotAQuantity::TooLarge)?;
        total = total.checked_add(part).ok_or(NotAQuantity::TooLarge)?;
        units = &units[at + 1..];
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// A size in bytes: one number with a unit of `B KiB MiB GiB TiB`; none means bytes.
pub fn parse_size(text: &str) -> Result<u64, NotAQuantity> {
    let (number, unit, after) = split(text.trim()).ok_or(NotAQuantity::Size)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    match SIZES.iter().find(|(u, _)| *u == unit) {
        Some((_, factor)) if after.is_empty() => {
            number?.checked_mul(*factor).ok_or(NotAQuantity::TooLarge)
        }
        _ => Err(NotAQuantity::Size),
    }
}

/// The number at the start, the letters after it, and what is left.
fn split(text: &str) -> Option<(Result<u64, NotAQuantity>, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let letters = text[digits..]
        .find(|c: char| !c.is_ascii_alphabetic())
        .map_or(text.len(), |offset| digits + offset);
    if digits == 0 {
        return None;
    }
    let number = text[..digits].parse().map_err(|_| NotAQuantity::TooLarge);
    Some((number, &text[digits..letters], &text[letters..]))
}

/// A duration as people write it: the two largest units that say something.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    let mut parts = 0;
    for (unit, size) in DURATIONS {
        if rest >= size && parts < 2 {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
            parts += 1;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// A size as people write it, rounded down to the largest unit that divides it below 1024.
pub fn format_size(bytes: u64) -> String {
    let (unit, size) =
        SIZES.into_iter().find(|(_, size)| bytes >= *size).unwrap_or(SIZES[SIZES.len() - 1]);
    if bytes.is_multiple_of(size) {
        format!("{}{unit}", bytes / size)
    } else {
        format!("{:.1}{unit}", bytes as f64 / size as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_manual_writes_them() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("300ms"), Ok(300));
        assert_eq!(ms("90s"), Ok(90_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("90d"), Ok(7_776_000_000));
        assert_eq!(ms("0s"), Ok(0));
        for text in ["", "90", "s", "1m1h", "1h1h", "-1s", "1.5h", "1 h", "1 w"] {
            assert_eq!(ms(text), Err(NotAQuantity::Duration), "{text}");
        }
        assert_eq!(ms("99999999999999999999s"), Err(NotAQuantity::TooLarge));
        assert_eq!(ms("99999999999999999d"), Err(NotAQuantity::TooLarge));
    }

    #[test]
    fn sizes_are_read_as_the_manual_writes_them() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for text in ["", "MiB", "1MB", "1GiB1MiB", "-1B"] {
            assert_eq!(parse_size(text), Err(NotAQuantity::Size), "{text}");
        }
        assert_eq!(parse_size("99999999999TiB"), Err(NotAQuantity::TooLarge));
    }

    #[test]
    fn quantities_are_written_as_they_are_read() {
        assert_eq!(format_duration(Duration::from_millis(5_400_000)), "1h30m");
        assert_eq!(format_duration(Duration::from_millis(3210)), "3s210ms");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_size(512 << 20), "512MiB");
        assert_eq!(format_size(1536), "1.5KiB");
        assert_eq!(format_size(0), "0B");
    }
}
