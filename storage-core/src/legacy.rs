//! The words of the system that came before: what its states mean here.

use crate::{JobStatus, Money, PaymentStatus, Result};

/// What a job's word meant in the earlier system; `None` for a word that nobody knows.
pub fn job_status(word: &str) -> Option<JobStatus> {
    Some(match word {
        "pending" | "queued" | "queuing" | "create_start" | "task_created" | "draft" | "await_confirm" | "waiting" => {
            JobStatus::Pending
        }
        "processing" | "running" | "generating" | "in_progress" => JobStatus::Running,
        "completed" | "done" | "success" | "succeeded" | "result_validated" | "tg_deliver" | "delivery_pending"
        | "delivered" => JobStatus::Completed,
        "failed" | "fail" | "error" | "exception" | "timeout" => JobStatus::Failed,
        "cancel" | "canceled" | "cancelled" => JobStatus::Cancelled,
        _ => return None,
    })
}

/// What a payment's word meant in the earlier system; `None` for a word that nobody knows.
pub fn payment_status(word: &str) -> Option<PaymentStatus> {
    Some(match word {
        "pending" => PaymentStatus::Pending,
        "approved" | "completed" => PaymentStatus::Approved,
        "rejected" | "failed" => PaymentStatus::Rejected,
        "cancelled" => PaymentStatus::Cancelled,
        _ => return None,
    })
}

/// The earlier system's test user: imported, and mentioned.
pub const TEST_USER: i64 = 999_999_999;

/// Reads money from a number's text as the earlier system wrote floats: any decimals, an exponent, rounded
/// half-even to 6 decimals. Answers whether rounding changed it.
///
/// ```
/// use storage_core::legacy::rounded_money;
///
/// let (money, rounded) = rounded_money("2402.2999999999997")?;
/// assert_eq!((money.to_string().as_str(), rounded), ("2402.30", true));
/// # Ok::<(), storage_core::Error>(())
/// ```
pub fn rounded_money(number: &str) -> Result<(Money, bool)> {
    let form = || crate::Error::invalid("money", "must be a decimal number");
    if number.starts_with('-') && number.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        return Err(crate::Error::invalid("money", "must not be negative"));
    }
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| form())?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    if whole.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(form());
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok((Money::ZERO, false));
    }
    let too_much = || crate::Error::invalid("money", "must be at most 999999999999.999999");
    // How many digits of `significant` stand for whole millionths.
    let places = i64::try_from(significant.len()).map_err(|_| too_much())? + i64::from(exponent) + 6
        - i64::try_from(fraction.len()).map_err(|_| too_much())?;
    if places > 18 {
        return Err(too_much());
    }
    let kept = usize::try_from(places.max(0)).unwrap_or(0).min(significant.len());
    let (head, tail) = if places < 0 { ("", "1") } else { significant.split_at(kept) };
    let zeros = usize::try_from(places.max(0)).unwrap_or(0) - kept;
    let mut micros: i64 = format!("0{head}{}", "0".repeat(zeros)).parse().map_err(|_| too_much())?;
    let residue = tail.bytes().any(|b| b != b'0');
    let half = tail.starts_with('5') && places >= 0 && tail[1..].bytes().all(|b| b == b'0');
    let above_half = places >= 0 && !half && tail.bytes().next().is_some_and(|b| b >= b'5');
    if above_half || (half && micros % 2 == 1) {
        micros += 1;
    }
    Ok((Money::from_micros(micros)?, residue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_even_to_six_decimals() {
        for (text, money, rounded) in [
            ("12.5", "12.50", false),
            ("2402.2999999999997", "2402.30", true),
            ("0.0000005", "0.00", true),
            ("0.0000015", "0.000002", true),
            ("0.0000025", "0.000002", true),
            ("0.00000250000001", "0.000003", true),
            ("0.00000049", "0.00", true),
            ("0.00000005", "0.00", true),
            ("1e3", "1000.00", false),
            ("1.5E-3", "0.0015", false),
            ("1e-9", "0.00", true),
            ("0e400", "0.00", false),
            ("-0.0", "0.00", false),
            ("999999999999.999999", "999999999999.999999", false),
            ("00005", "5.00", false),
        ] {
            let (value, residue) = rounded_money(text).unwrap();
            assert_eq!((value.to_string().as_str(), residue), (money, rounded), "{text}");
        }
        for bad in ["-1", "1e400", "1e12", "NaN", "", "x", "1e", "999999999999.9999995", "1.2.3", "1e99999999999"] {
            assert!(rounded_money(bad).is_err(), "{bad}");
        }
    }
}
