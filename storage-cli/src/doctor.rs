//! `storage doctor`: where the store lives, what it needs there, and what to do about what is wrong.

use serde_json::json;
use storage_core::{Diagnosis, Verdict};
use storage_factory::examine;

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::clean;

pub(crate) async fn doctor(context: &Context) -> Outcome {
    let diagnoses = examine(context.config.clone()).await?;
    let worst = diagnoses.iter().map(|diagnosis| diagnosis.verdict).max().unwrap_or(Verdict::Good);
    let object = json!({ "verdict": worst, "diagnoses": diagnoses });
    context.out.answer(&object, || to_text(context, &diagnoses))?;
    Ok(if worst == Verdict::Bad { Exit::Differences } else { Exit::Done })
}

fn to_text(context: &Context, diagnoses: &[Diagnosis]) -> String {
    let width = diagnoses.iter().map(|diagnosis| diagnosis.subject.len()).max().unwrap_or(0);
    let mut lines = vec![context.choice.to_string()];
    for Diagnosis { subject, verdict, found, remedy } in diagnoses {
        let word = format!("{verdict:<6}");
        let word = match verdict {
            Verdict::Good => context.out.good(&word),
            Verdict::Notice => word.as_str().into(),
            Verdict::Bad => context.out.bad(&word),
        };
        lines.push(format!("  {word}  {subject:<width$}  {}", clean(found)));
        if let Some(remedy) = remedy {
            lines.push(format!("          {:width$}  try: {}", "", clean(remedy)));
        }
    }
    let count = |wanted| diagnoses.iter().filter(|diagnosis| diagnosis.verdict == wanted).count();
    lines.push(match (count(Verdict::Bad), count(Verdict::Notice)) {
        (0, 0) => format!("doctor: {}", context.out.good("all is well")),
        (0, notices) => format!("doctor: {}, {notices} to be known", context.out.good("well")),
        (bad, notices) => format!("doctor: {}, {notices} to be known", context.out.bad(&format!("{bad} bad"))),
    });
    lines.join("\n")
}
