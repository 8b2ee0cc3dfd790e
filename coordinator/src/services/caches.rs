//! The `Caches` service: looks into the build caches of agents, and has things done with them.
//!
//! Every agent is asked over its own stream ([`crate::cache_desk`]), many at once, and each is waited for with a bound of
//! its own: one that is away, too old or silent is reported as such and holds nobody up. What they answer is handed on as
//! it comes; nothing is decided here but who may hear what.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use meridian_core::{
    build::{BuildSpec, PLATFORMS_MAX},
    id::{AgentId, FleetName, ProjectId},
    machine::{LineageView, Machine},
    time::Wall,
};
use meridian_proto::v1::{self, cache_answer::Answer, cache_question::Question, cache_report::Report};
use meridian_runtime::clock::Clock;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    authorization::Caller,
    cache_desk::CacheDesk,
    handle::Handle,
    status::{from_command, from_convert, invalid},
};

/// How many agents are asked at once.
const ASKED_AT_ONCE: usize = 32;
/// Reports that may wait for the caller.
const REPORTS_QUEUED_MAX: usize = 64;
/// How long an agent that works may be silent; it says every five seconds that it does.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Lineages that are told of, the newest first.
const LINEAGES_TOLD_MAX: usize = 1_024;
/// Lineages that one eviction may name.
const LINEAGES_NAMED_MAX: usize = 4_096;

/// The `Caches` service.
#[derive(Clone)]
pub(crate) struct CachesService {
    pub(crate) fleet: FleetName,
    pub(crate) handle: Handle,
    pub(crate) desk: CacheDesk,
    pub(crate) clock: Clock,
}

type Reports = ReceiverStream<Result<v1::CacheReport, Status>>;

impl CachesService {
    /// The agents that are meant: one, those of a region, or all that are attached and have a cache.
    async fn meant(&self, agents: Option<v1::CacheAgents>) -> Result<Vec<AgentId>, Status> {
        let v1::CacheAgents { agent, region } = agents.unwrap_or_default();
        if !agent.is_empty() {
            // One that is away is told as such.
            return agent.parse().map(|agent| vec![agent]).map_err(invalid);
        }
        let attached = |machine: &Machine| {
            let with_cache = machine.agents().filter(|agent| agent.offer.cache.is_some());
            with_cache.map(|agent| agent.agent.clone()).collect::<Vec<_>>()
        };
        let mut agents = self.handle.read(attached).await.map_err(from_command)?;
        if !region.is_empty() {
            agents.retain(|agent| agent.region.as_str() == region);
            if agents.is_empty() {
                return Err(Status::not_found(format!("no agent of region {region} is attached")));
            }
        }
        Ok(agents)
    }

    /// Asks agents, many at once, and reports what they say; `first` is said before. Of several questions to one agent,
    /// which does one after the other, each is asked when the one before it has ended: they take one place there.
    fn report(
        &self,
        first: Option<Report>,
        asked: Vec<(AgentId, Question)>,
        within: Duration,
        shown: impl Fn(Report) -> Report + Send + Sync + 'static,
    ) -> Response<Reports> {
        let (reports, stream) = mpsc::channel(REPORTS_QUEUED_MAX);
        let (desk, shown): (_, Arc<dyn Fn(Report) -> Report + Send + Sync>) =
            (self.desk.clone(), Arc::new(shown));
        tokio::spawn(async move {
            if let Some(report) = first {
                let report = v1::CacheReport { agent: String::new(), report: Some(report) };
                if reports.send(Ok(report)).await.is_err() {
                    return;
                }
            }
            let places = Arc::new(Semaphore::new(ASKED_AT_ONCE));
            let mut asking = JoinSet::new();
            let mut by_agent: BTreeMap<AgentId, Vec<Question>> = BTreeMap::new();
            for (agent, asked) in asked {
                by_agent.entry(agent).or_default().push(asked);
            }
            for (agent, asked) in by_agent {
                let teller = Teller { agent, reports: reports.clone(), shown: Arc::clone(&shown) };
                let (desk, places) = (desk.clone(), Arc::clone(&places));
                asking.spawn(async move {
                    // It is never closed.
                    let _place = places.acquire_owned().await;
                    ask_in_turn(&desk, asked, within, &teller).await;
                });
            }
            tokio::select! {
                () = async { while asking.join_next().await.is_some() {} } => {}
                // Whoever hung up waits for nobody. What the agents began they end.
                () = reports.closed() => {}
            }
        });
        Response::new(ReceiverStream::new(stream))
    }

    fn now(&self) -> Wall {
        Wall(self.clock.now().wall_ms)
    }
}

/// Tells the caller of one agent.
struct Teller {
    agent: AgentId,
    reports: mpsc::Sender<Result<v1::CacheReport, Status>>,
    shown: Arc<dyn Fn(Report) -> Report + Send + Sync>,
}

impl Teller {
    /// Whether the caller is still there.
    async fn say(&self, report: Report) -> bool {
        let report = v1::CacheReport { agent: self.agent.to_string(), report: Some((self.shown)(report)) };
        self.reports.send(Ok(report)).await.is_ok()
    }
}

/// Asks one agent several questions, each when the one before it has ended. Once it is silent or its stream has ended it is
/// asked no more: of the rest the same is said, without waiting for each.
async fn ask_in_turn(desk: &CacheDesk, asked: Vec<Question>, within: Duration, teller: &Teller) {
    let mut lost: Option<String> = None;
    for question in asked {
        match &lost {
            Some(why) => drop(teller.say(Report::Failed(why.clone())).await),
            None => lost = ask(desk, question, within, teller).await,
        }
    }
}

/// Asks one agent, and says what it answers until the last word, or why there is none. Gives why nothing more is to be
/// expected of it, where that is so.
async fn ask(desk: &CacheDesk, question: Question, within: Duration, teller: &Teller) -> Option<String> {
    let mut answers = match desk.ask(&teller.agent, question) {
        Ok(answers) => answers,
        Err(why) => {
            teller.say(Report::Failed(why.to_string())).await;
            return None;
        }
    };
    let latest = Instant::now() + within;
    loop {
        let until = latest.min(Instant::now() + SILENCE_MAX);
        let (last, lost) = match timeout_at(until, answers.next()).await {
            Ok(Some(v1::CacheAnswer { answer: Some(Answer::Working(working)), .. })) => {
                if !teller.say(Report::Working(working)).await {
                    return None;
                }
                continue;
            }
            Ok(Some(answer)) => (last_word(answer), None),
            Err(_) if until == latest => {
                (Report::Failed(format!("it was not done within {} s", within.as_secs())), None)
            }
            Ok(None) => lost("its stream ended before it answered".to_owned()),
            Err(_) => lost(format!("it said nothing for {} s", SILENCE_MAX.as_secs())),
        };
        teller.say(last).await;
        return lost;
    }
}

/// The last word of an agent of which nothing more is to be expected, and why not.
fn lost(why: String) -> (Report, Option<String>) {
    (Report::Failed(why.clone()), Some(why))
}

fn last_word(answer: v1::CacheAnswer) -> Report {
    match answer.answer {
        Some(Answer::Stats(stats)) => Report::Stats(stats),
        Some(Answer::Warmed(warmed)) => Report::Warmed(warmed),
        Some(Answer::Evicted(evicted)) => Report::Evicted(evicted),
        Some(Answer::Verified(verified)) => Report::Verified(verified),
        Some(Answer::Failed(why)) => Report::Failed(why),
        Some(Answer::Working(_)) | None => Report::Failed("it answered what is not known here".to_owned()),
    }
}

/// The projects that a caller may hear of.
fn hears_of(caller: &Caller) -> impl Fn(&str) -> bool + use<> {
    let team = match caller {
        Caller::Admin => None,
        Caller::Member { team, .. } => Some(format!("{team}/")),
        // Kept out by the table; they hear of nothing.
        Caller::Agent(_) | Caller::Anonymous => Some("/".to_owned()),
    };
    move |project: &str| team.as_ref().is_none_or(|team| project.starts_with(team.as_str()))
}

fn known(view: &LineageView<'_>) -> v1::KnownLineage {
    let record = view.record;
    v1::KnownLineage {
        key: record.lineage.exact.0.as_bytes().to_vec().into(),
        project: record.task.build.project.to_string(),
        name: view.name.as_ref().map(Into::into),
        manifest: Some((&record.manifest).into()),
        made_ms: record.at.0,
        holders: view.holders.iter().map(ToString::to_string).collect(),
    }
}

/// Checks what an eviction names, before any agent is asked.
fn checked(eviction: Option<v1::CacheEviction>) -> Result<v1::CacheEviction, Status> {
    use v1::cache_eviction::What;
    let eviction = eviction.ok_or_else(|| invalid("say what is to go"))?;
    match &eviction.what {
        Some(What::UnusedMs(_) | What::All(true)) => Ok(eviction),
        Some(What::Lineages(lineages)) => {
            let is_well_formed = lineages.keys.iter().all(|key| key.len() == 32);
            if lineages.keys.is_empty() || lineages.keys.len() > LINEAGES_NAMED_MAX || !is_well_formed {
                return Err(invalid(format!(
                    "1 to {LINEAGES_NAMED_MAX} lineages of 32 bytes each are named"
                )));
            }
            Ok(eviction)
        }
        Some(What::All(false)) | None => Err(invalid("say what is to go")),
    }
}

#[tonic::async_trait]
impl v1::caches_server::Caches for CachesService {
    type StatsStream = Reports;
    type WarmStream = Reports;
    type EvictStream = Reports;
    type VerifyStream = Reports;

    async fn stats(&self, request: Request<v1::CacheStatsRequest>) -> Result<Response<Reports>, Status> {
        let hears_of = hears_of(&Caller::of(&request));
        let agents = self.meant(request.into_inner().agents).await?;
        let lineages = self.handle.read(|machine| machine.lineages().iter().map(known).collect::<Vec<_>>());
        let mut lineages = lineages.await.map_err(from_command)?;
        lineages.retain(|lineage| hears_of(&lineage.project));
        lineages.truncate(LINEAGES_TOLD_MAX);
        let question = || Question::Stats(v1::CacheStatsQuestion {});
        let asked = agents.into_iter().map(|agent| (agent, question())).collect();
        let shown = move |mut report| {
            if let Report::Stats(stats) = &mut report {
                let project = |used: &v1::LineageUse| {
                    used.name.as_ref().map_or("", |name| name.project.as_str()).to_owned()
                };
                stats.lineages.retain(|used| hears_of(&project(used)));
            }
            report
        };
        let first = Report::Lineages(v1::KnownLineages { lineages });
        Ok(self.report(Some(first), asked, Duration::from_secs(10), shown))
    }

    async fn warm(&self, request: Request<v1::CacheWarmRequest>) -> Result<Response<Reports>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let project: ProjectId = message.project.parse().map_err(invalid)?;
        caller.check_project(&project)?;
        let requester = caller.requester(&self.fleet)?;
        let spec = message.spec.ok_or_else(|| invalid("spec is missing"))?;
        let mut spec = BuildSpec::try_from(spec).map_err(|e| from_convert(&e))?;
        spec.normalise();
        if spec.platforms.len() > PLATFORMS_MAX {
            return Err(invalid(format!("more than {PLATFORMS_MAX} platforms")));
        }
        let agents = self.meant(message.agents).await?;
        let (at, about) = (self.now(), project.clone());
        let asked = self.handle.read(move |machine| {
            let mut asked = Vec::new();
            for agent in &agents {
                for platform in &spec.platforms {
                    let hints = machine.warming(agent, (&project, &requester), (&spec, platform), at)?;
                    // Whether it has all of it already knows the agent alone: what it last said may be over.
                    let warming =
                        v1::CacheWarming { hints: Some((&hints).into()), platform: platform.to_string() };
                    asked.push((agent.clone(), Question::Warm(warming)));
                }
            }
            Some(asked)
        });
        let asked = asked.await.map_err(from_command)?.ok_or_else(|| {
            Status::not_found(format!(
                "no build of {about} for the same platform and with the same Go has left a manifest: build it once, then there is something to bring"
            ))
        })?;
        Ok(self.report(None, asked, Duration::from_secs(15 * 60), |report| report))
    }

    async fn evict(&self, request: Request<v1::CacheEvictRequest>) -> Result<Response<Reports>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let eviction = checked(message.eviction)?;
        let agents = self.meant(message.agents).await?;
        tracing::warn!(%caller, agents = agents.len(), ?eviction, "build caches are told to let go");
        let question = || Question::Evict(eviction.clone());
        let asked = agents.into_iter().map(|agent| (agent, question())).collect();
        Ok(self.report(None, asked, Duration::from_secs(10 * 60), |report| report))
    }

    async fn verify(&self, request: Request<v1::CacheVerifyRequest>) -> Result<Response<Reports>, Status> {
        let agents = self.meant(request.into_inner().agents).await?;
        let question = || Question::Verify(v1::CacheVerifyQuestion {});
        let asked = agents.into_iter().map(|agent| (agent, question())).collect();
        Ok(self.report(None, asked, Duration::from_secs(6 * 3600), |report| report))
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::id::SessionId;
    use tokio::time::sleep;

    use super::*;

    fn warming(platform: &str) -> Question {
        Question::Warm(v1::CacheWarming { hints: None, platform: platform.to_owned() })
    }

    /// Asks an agent for three platforms; what was said of each, how many questions came there, and how long it took.
    /// `answer` says what the agent does with each.
    async fn asked(answer: impl AsyncFn(&CacheDesk, &AgentId, u64)) -> (Vec<String>, usize, Duration) {
        let desk = CacheDesk::default();
        let agent: AgentId = "eu/a".parse().unwrap();
        let mut questions = desk.open(&agent, SessionId(1), true);
        let (reports, mut said) = mpsc::channel(16);
        let teller = Teller { agent: agent.clone(), reports, shown: Arc::new(|report| report) };
        let began = Instant::now();
        let mut count = 0;
        let answering = async {
            while let Some(v1::CoordinatorMessage { message, .. }) = questions.recv().await {
                let Some(v1::coordinator_message::Message::CacheQuestion(question)) = message else {
                    panic!("{message:?}")
                };
                count += 1;
                answer(&desk, &agent, question.number).await;
            }
            std::future::pending::<()>().await;
        };
        let platforms = ["linux/amd64", "linux/arm64", "darwin/arm64"].map(warming);
        tokio::select! {
            () = ask_in_turn(&desk, platforms.into(), Duration::from_secs(900), &teller) => {}
            () = answering => {}
        }
        let took = began.elapsed();
        drop(teller);
        let mut told = Vec::new();
        while let Some(Ok(v1::CacheReport { report, .. })) = said.recv().await {
            let Some(Report::Failed(why)) = report else { panic!("{report:?}") };
            told.push(why);
        }
        (told, count, took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_waited_for_once_and_not_for_each_platform() {
        let (told, count, took) = asked(async |_, _, _| {}).await;
        assert_eq!(told, ["it said nothing for 20 s"; 3]);
        assert_eq!(count, 1);
        assert!(took < SILENCE_MAX + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_is_asked_for_each_platform_and_one_whose_stream_has_ended_for_none() {
        let fails = |number| v1::CacheAnswer { number, answer: Some(Answer::Failed("none".to_owned())) };
        let answers = async |desk: &CacheDesk, agent: &AgentId, number| {
            sleep(SILENCE_MAX / 2).await;
            desk.answered(agent, fails(number));
        };
        let (told, count, _) = asked(answers).await;
        assert_eq!((told, count), (vec!["none".to_owned(); 3], 3));
        let ends = async |desk: &CacheDesk, agent: &AgentId, number| match number {
            1 => desk.answered(agent, fails(number)),
            _ => desk.close(agent, SessionId(1)),
        };
        let (told, count, _) = asked(ends).await;
        let ended = "its stream ended before it answered";
        assert_eq!((told, count), (vec!["none".to_owned(), ended.to_owned(), ended.to_owned()], 2));
    }
}
