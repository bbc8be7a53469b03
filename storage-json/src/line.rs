//! Lines with a checksum: what the journal and the ledger are made of.
//!
//! A line is one JSON object that ends in `,"crc":"xxxxxxxx"}` and a newline. The checksum (CRC-32) covers every byte
//! before `,"crc"`.

use serde::Serialize;
use storage_core::{Error, Result};

/// The bytes that follow the checked part: `,"crc":"xxxxxxxx"}` and the newline.
const SUFFIX: usize = 19;

/// Ends a line that was begun at `start` and stands without its closing brace.
pub(crate) fn seal(buffer: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(&buffer[start..]);
    buffer.extend_from_slice(b",\"crc\":\"");
    buffer.extend((0..8).rev().map(|digit| b"0123456789abcdef"[(crc >> (4 * digit) & 15) as usize]));
    buffer.extend_from_slice(b"\"}\n");
}

/// Appends a value as JSON.
pub(crate) fn json(buffer: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(buffer, value)
        .map_err(|error| Error::internal("a line could not be serialised").caused_by(error))
}

/// Appends a number.
pub(crate) fn number(buffer: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.extend_from_slice(&digits[start..]);
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

    #[test]
    fn numbers_and_checksums_have_their_digits() {
        for given in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut text = Vec::new();
            number(&mut text, given);
            assert_eq!(text, given.to_string().into_bytes());
        }
        // "123456789" is the check value of CRC-32: cbf43926.
        let mut text = b"123456789".to_vec();
        seal(&mut text, 0);
        assert_eq!(text, b"123456789,\"crc\":\"cbf43926\"}\n");
    }
}
