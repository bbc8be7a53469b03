//! Lines with a checksum: what the journal and the ledger are made of.
//!
//! A line is one JSON object that ends in `,"crc":"xxxxxxxx"}` and a newline. The checksum (CRC-32) covers every byte
//! before `,"crc"`.

use std::io::Write as _;

/// The bytes that follow the checked part: `,"crc":"xxxxxxxx"}` and the newline.
const SUFFIX: usize = 19;

/// Ends a line that was begun at `start` and stands without its closing brace.
pub(crate) fn seal(buffer: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(&buffer[start..]);
    // Writing to a Vec cannot fail.
    let _ = writeln!(buffer, ",\"crc\":\"{crc:08x}\"}}");
}

/// Whether a line, its newline included, is whole.
pub(crate) fn is_whole(line: &[u8]) -> bool {
    let Some(body) = line.len().checked_sub(SUFFIX) else { return false };
    let (body, suffix) = line.split_at(body);
    let Some(digits) = suffix.strip_prefix(b",\"crc\":\"").and_then(|rest| rest.strip_suffix(b"\"}\n")) else {
        return false;
    };
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .is_some_and(|crc| crc == crc32fast::hash(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut line = b"before\n".to_vec();
        line.extend_from_slice(br#"{"seq":1,"set":[]"#);
        seal(&mut line, 7);
        let line = line.split_off(7);
        assert!(is_whole(&line));
        for at in 0..line.len() * 8 {
            let mut damaged = line.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            // A digit of the checksum may differ in case only.
            assert!(!is_whole(&damaged) || damaged.eq_ignore_ascii_case(&line), "bit {at}");
        }
        assert!(!is_whole(b""));
    }
}
