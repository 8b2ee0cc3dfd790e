//! Placements and how far an attempt is.

use meridian_core::{
    id::{PlacementNumber, RegionName},
    machine::{
        input::{Phase, Progress},
        record::{Candidate, Placement, Verdict},
        views::TaskExplanation,
    },
    quantity::ByteCount,
    schedule::cost::Terms,
};

use super::field::{ConvertError, list, messages, required, text, unknown};
use crate::v1;

impl From<&Placement> for v1::Placement {
    fn from(placement: &Placement) -> Self {
        Self {
            number: placement.number.0,
            agent: placement.agent.to_string(),
            because: placement.because.clone(),
            candidates: messages(&placement.candidates),
            refused: refusals(&placement.refused),
            egress: placement
                .egress
                .as_ref()
                .map(|(region, bytes)| v1::placement::Egress { region: region.to_string(), bytes: bytes.0 }),
        }
    }
}

impl TryFrom<v1::Placement> for Placement {
    type Error = ConvertError;

    fn try_from(wire: v1::Placement) -> Result<Self, ConvertError> {
        Ok(Self {
            number: PlacementNumber(wire.number),
            agent: text(&wire.agent, "agent")?,
            because: wire.because,
            candidates: list(wire.candidates, "candidates")?,
            refused: wire.refused.into_iter().map(|refusal| (refusal.why, refusal.agents)).collect(),
            egress: wire.egress.map(egress).transpose()?,
        })
    }
}

/// Why agents could not take a task, and how many each time.
fn refusals(refused: &[(String, u32)]) -> Vec<v1::placement::Refusal> {
    refused.iter().map(|(why, agents)| v1::placement::Refusal { why: why.clone(), agents: *agents }).collect()
}

fn egress(wire: v1::placement::Egress) -> Result<(RegionName, ByteCount), ConvertError> {
    Ok((text(&wire.region, "egress.region")?, ByteCount(wire.bytes)))
}

impl From<&TaskExplanation> for v1::TaskExplanation {
    fn from(explanation: &TaskExplanation) -> Self {
        Self {
            ordinal: explanation.task.ordinal,
            kind: Some((&explanation.kind).into()),
            now: explanation.now.clone(),
            candidates: messages(&explanation.candidates),
            history: messages(&explanation.history),
            refused: refusals(&explanation.refused),
            waits_code: explanation
                .waits
                .as_ref()
                .map_or_else(String::new, |reason| reason.code().to_owned()),
            end: explanation
                .end
                .as_ref()
                .map(|(at, how)| v1::task_explanation::End { at_ms: at.0, how: how.clone() }),
        }
    }
}

impl From<&Candidate> for v1::Candidate {
    fn from(candidate: &Candidate) -> Self {
        use v1::candidate as wire;
        let verdict = match &candidate.verdict {
            Verdict::Eligible { cost_us, rtt_us, busy, slots, hit_rate_permille, terms } => {
                wire::Verdict::Eligible(wire::Eligible {
                    cost_us: *cost_us,
                    rtt_us: *rtt_us,
                    busy: *busy,
                    slots: *slots,
                    hit_rate_permille: *hit_rate_permille,
                    terms: terms.map(Into::into),
                })
            }
            Verdict::Refused { why } => wire::Verdict::Refused(why.clone()),
        };
        Self { agent: candidate.agent.to_string(), verdict: Some(verdict) }
    }
}

impl TryFrom<v1::Candidate> for Candidate {
    type Error = ConvertError;

    fn try_from(wire: v1::Candidate) -> Result<Self, ConvertError> {
        use v1::candidate::Verdict as Wire;
        let verdict = match required(wire.verdict, "verdict")? {
            Wire::Eligible(eligible) => Verdict::Eligible {
                cost_us: eligible.cost_us,
                rtt_us: eligible.rtt_us,
                busy: eligible.busy,
                slots: eligible.slots,
                hit_rate_permille: eligible.hit_rate_permille,
                terms: eligible.terms.map(Into::into),
            },
            Wire::Refused(why) => Verdict::Refused { why },
        };
        Ok(Self { agent: text(&wire.agent, "agent")?, verdict })
    }
}

impl From<Terms> for v1::candidate::Terms {
    fn from(terms: Terms) -> Self {
        let Terms { wait_us, rounds_us, transfer_us, run_us, deliver_us } = terms;
        Self { wait_us, rounds_us, transfer_us, run_us, deliver_us }
    }
}

impl From<v1::candidate::Terms> for Terms {
    fn from(wire: v1::candidate::Terms) -> Self {
        let v1::candidate::Terms { wait_us, rounds_us, transfer_us, run_us, deliver_us } = wire;
        Self { wait_us, rounds_us, transfer_us, run_us, deliver_us }
    }
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Preflight => Self::Preflight,
            Phase::Toolchain => Self::Toolchain,
            Phase::Source => Self::Source,
            Phase::Modules => Self::Modules,
            Phase::Compile => Self::Compile,
            Phase::Upload => Self::Upload,
        }
    }
}

fn phase(value: i32) -> Result<Phase, ConvertError> {
    Ok(match v1::Phase::try_from(value) {
        Ok(v1::Phase::Preflight) => Phase::Preflight,
        Ok(v1::Phase::Toolchain) => Phase::Toolchain,
        Ok(v1::Phase::Source) => Phase::Source,
        Ok(v1::Phase::Modules) => Phase::Modules,
        Ok(v1::Phase::Compile) => Phase::Compile,
        Ok(v1::Phase::Upload) => Phase::Upload,
        Ok(v1::Phase::Unspecified) | Err(_) => return Err(unknown("phase", value)),
    })
}

impl From<&Progress> for v1::Progress {
    fn from(progress: &Progress) -> Self {
        Self {
            phase: v1::Phase::from(progress.phase).into(),
            done: progress.done,
            total: progress.total,
            detail: progress.detail.clone(),
        }
    }
}

impl TryFrom<v1::Progress> for Progress {
    type Error = ConvertError;

    fn try_from(wire: v1::Progress) -> Result<Self, ConvertError> {
        Ok(Self { phase: phase(wire.phase)?, done: wire.done, total: wire.total, detail: wire.detail })
    }
}
