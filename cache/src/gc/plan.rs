//! What goes and what stays: a decision, and nothing done.

use std::time::{Duration, SystemTime};

use super::{Policy, Standing, Why};

/// What a decision about an item rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// How it stands.
    pub standing: Standing,
    /// When it was of use last.
    pub last_used: SystemTime,
    /// How long it takes to have it again, in seconds.
    pub seconds: f64,
    /// Its share of the room, in bytes.
    pub share: u64,
}

/// What a plan says of each candidate, in their order.
pub type Decision = Vec<Why>;

/// Decides what goes. `total` is what the store takes, in bytes; `release` takes a candidate away and tells
/// how many bytes that frees. Candidates are asked about in the order in which they go: each costs the
/// fewest seconds of work per byte and day since its last use.
pub fn plan<E>(
    candidates: &[Candidate],
    policy: Policy,
    now: SystemTime,
    mut total: u64,
    mut release: impl FnMut(usize) -> Result<u64, E>,
) -> Result<Decision, E> {
    let unused = |candidate: &Candidate| now.duration_since(candidate.last_used).unwrap_or_default();
    let mut decisions: Decision = Vec::with_capacity(candidates.len());
    for (at, candidate) in candidates.iter().enumerate() {
        let why = match &candidate.standing {
            Standing::Needed(what) => Why::Needed(what.clone()),
            Standing::Useless(why) => Why::Useless(why.clone()),
            Standing::Cached if policy.max_age.is_some_and(|age| unused(candidate) > age) => Why::Old,
            Standing::Cached if policy.max_size.is_some() => Why::Fits,
            Standing::Cached => Why::Young,
        };
        if why.goes() {
            total = total.saturating_sub(release(at)?);
        }
        decisions.push(why);
    }
    let Some(most) = policy.max_size else { return Ok(decisions) };
    let mut order: Vec<usize> = (0..candidates.len()).filter(|at| decisions[*at] == Why::Fits).collect();
    let worth = |at: &usize| worth(&candidates[*at], unused(&candidates[*at]));
    order.sort_by(|a, b| worth(a).total_cmp(&worth(b)).then(a.cmp(b)));
    for at in order {
        if total <= most {
            break;
        }
        total = total.saturating_sub(release(at)?);
        decisions[at] = Why::Budget;
    }
    Ok(decisions)
}

/// Seconds of work that a byte of it saves, less with each day that nobody wanted it.
fn worth(candidate: &Candidate, unused: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nobody's disk is that large")]
    let bytes = candidate.share.max(4096) as f64;
    candidate.seconds.max(0.0) / bytes / (1.0 + unused.as_secs_f64() / 86_400.0)
}
