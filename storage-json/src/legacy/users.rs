//! Languages and claimed gifts.

use storage_core::{ImportRecord, Language, Result};

use super::fields::{broken, is_nothing, ruled, user_from};
use super::gather::Gather;
use super::source_files::LegacyFile;
use crate::json_text::NodeValue;

/// Reads `user_languages.json`.
pub(super) fn read_languages(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |_, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        match &node.value {
            _ if is_nothing(node) => Ok(None),
            NodeValue::String(tag) => {
                Ok(Some(ImportRecord::Language { user, language: ruled("language", Language::new(&**tag))? }))
            }
            _ => broken("language", format_args!("must be a text, not {}", node.kind())),
        }
    })
}

/// Reads `gift_claimed.json`.
pub(super) fn read_gifts(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.each_record(file, &mut |_, attempt, node| {
        let user = user_from("user id", attempt.key)?;
        match &node.value {
            NodeValue::Bool(true) => Ok(Some(ImportRecord::Gift { user })),
            NodeValue::Bool(false) | NodeValue::Null => Ok(None),
            _ => broken("gift", format_args!("must be true or false, not {}", node.kind())),
        }
    })
}
