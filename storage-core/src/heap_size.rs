//! How much a value keeps on the heap: what whoever lets values wait counts, so that a queue has a limit in bytes.

use crate::{
    Actor, AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, CommitReserve,
    Destination, ErrorMessage, FileId, Generation, GenerationId, HoldName, ImportRecord, IncrementFreeGenerations, Job,
    JobId, Language, MarkPaymentStatus, Memo, ModelId, ModelName, Note, OperationKey, Params, Payment, PaymentId,
    PaymentMethod, ProviderKey, Reference, RefundPayment, ReleaseReserve, ReserveBalance, ResultUrls,
    ReturnFreeGeneration, SetAdminLimit, SetBalance, SetGiftClaimed, SetReferrer, SetUserLanguage, SubtractBalance,
    TaskId, UpdateJobStatus,
};

/// What a value keeps on the heap, in bytes: its texts. A text that is shared counts in full with each who shares it, and
/// what an allocator adds does not count. Costs a look at each text's length.
///
/// ```
/// use storage_core::{AddBalance, HeapSize, UserId};
///
/// let add = AddBalance::new(UserId::new(1001)?, "5".parse()?).with_key("charge-17".parse()?);
/// assert_eq!(add.heap_size(), "charge-17".len());
/// # Ok::<(), storage_core::Error>(())
/// ```
pub trait HeapSize {
    /// The bytes.
    fn heap_size(&self) -> usize;
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, HeapSize::heap_size)
    }
}

macro_rules! texts {
    ($($name:ident)+) => {$(
        impl HeapSize for $name {
            fn heap_size(&self) -> usize {
                self.as_str().len()
            }
        }
    )+};
}

texts! {
    Actor Destination ErrorMessage FileId GenerationId HoldName JobId Language ModelId ModelName Note OperationKey
    PaymentId PaymentMethod ProviderKey Reference TaskId
}

impl HeapSize for Params {
    fn heap_size(&self) -> usize {
        self.as_json().len()
    }
}

impl HeapSize for ResultUrls {
    fn heap_size(&self) -> usize {
        self.as_slice().iter().map(|url| size_of::<String>() + url.len()).sum()
    }
}

/// Each struct with the fields that keep something on the heap; behind `..`, those that do not. Both are named, so that a
/// later field fails to compile here.
macro_rules! structs {
    ($($name:ident { $($heavy:ident)* ; $($flat:ident)* })+) => {$(
        impl HeapSize for $name {
            fn heap_size(&self) -> usize {
                let Self { $($heavy,)* $($flat: _,)* } = self;
                0 $(+ $heavy.heap_size())*
            }
        }
    )+};
}

structs! {
    Memo { reference reason actor; }
    SetUserLanguage { language key; user }
    SetGiftClaimed { key; user }
    SetBalance { memo key; user balance }
    AddBalance { memo key; user amount }
    SubtractBalance { memo key; user amount }
    ReserveBalance { name memo key; user amount expires_at }
    CommitReserve { name key; user amount }
    ReleaseReserve { name key; user }
    IncrementFreeGenerations { key; user }
    ReturnFreeGeneration { take; user }
    AddReferralBonus { key; referrer count }
    SetAdminLimit { key; user limit }
    AddGenerationJob { job external_task_id model_id model_name params key; user price }
    UpdateJobStatus { job result_urls error_message external_task_id key; status }
    AddGenerationToHistory { id model_id model_name params result_urls; user price }
    AddPayment { method payment provider_key screenshot_file_id notes key; user amount }
    MarkPaymentStatus { payment notes key; status admin }
    RefundPayment { payment notes key; admin }
    SetReferrer { key; user referrer bonus }
    Generation { id model_id model_name params result_urls; price at }
    Job {
        id model_id model_name params external_task_id result_urls error_message;
        user price status created_at updated_at created_with
    }
    Payment {
        id method screenshot_file_id provider_key notes;
        user amount status admin origin created_at updated_at
    }
}

impl HeapSize for ImportRecord {
    fn heap_size(&self) -> usize {
        match self {
            Self::Balance { .. }
            | Self::Gift { .. }
            | Self::Quota { .. }
            | Self::AdminLimit { .. }
            | Self::Spent { .. }
            | Self::Referral { .. } => 0,
            Self::Language { user: _, language } => language.heap_size(),
            Self::Generation { user: _, generation } => generation.heap_size(),
            Self::Job(job) => job.heap_size(),
            Self::Payment(payment) => payment.heap_size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobStatus, UserId};

    #[test]
    fn what_is_on_the_heap_counts_and_nothing_else() {
        let user = UserId::new(1).unwrap();
        assert_eq!(SetGiftClaimed::new(user).heap_size(), 0);
        let memo = Memo {
            reference: Some("four".parse().unwrap()),
            reason: Some("sixsix".parse().unwrap()),
            actor: Some("me".parse().unwrap()),
        };
        let add = AddBalance::new(user, "1".parse().unwrap()).with_memo(memo).with_key("key".parse().unwrap());
        assert_eq!(add.heap_size(), 4 + 6 + 2 + 3);
        let mut update = UpdateJobStatus::new("job".parse().unwrap(), JobStatus::Completed);
        update.result_urls = Some(ResultUrls::new(["12345", "678"]).unwrap());
        assert_eq!(update.heap_size(), 3 + 8 + 2 * size_of::<String>());
        let record = ImportRecord::Language { user, language: "en".parse().unwrap() };
        assert_eq!(record.heap_size(), 2);
    }

    /// The largest values that the types allow: a call is never larger than this.
    #[test]
    fn the_largest_call_is_known() {
        let id = "x".repeat(crate::MAX_ID_BYTES);
        let name = "x".repeat(crate::MAX_NAME_BYTES);
        let urls = vec!["x".repeat(crate::MAX_URL_BYTES); crate::MAX_URLS];
        let generation = AddGenerationToHistory {
            user: UserId::new(1).unwrap(),
            id: Some(id.parse().unwrap()),
            model_id: name.parse().unwrap(),
            model_name: name.parse().unwrap(),
            params: Params::new(&"x".repeat(crate::MAX_PARAMS_BYTES - 2).into()).unwrap(),
            result_urls: ResultUrls::new(urls).unwrap(),
            price: crate::Money::ZERO,
        };
        assert_eq!(generation.heap_size(), 200 + 2 * 512 + 64 * 1024 + 64 * (2048 + size_of::<String>()));
    }
}
