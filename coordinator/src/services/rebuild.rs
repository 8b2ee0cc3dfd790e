//! `Builds.Rebuild`: from a build to the request that repeats it.
//!
//! The request is made here and not by the client, from the record of the first build, so that `rebuild_of` means
//! what it says. What is compared later, artifacts and documents, must still be held before anything is built again.

use meridian_core::{
    build::{Artifact, Source, Wishes},
    digest::Digest,
    golang::platform::Platform,
    id::{BuildId, IdempotencyKey},
    machine::record::{BuildRecord, TaskState},
    trace::Traceparent,
};
use meridian_proto::v1;
use tonic::{Response, Status};

use super::builds::{BuildsService, parse_build};
use crate::{
    authorization::Caller,
    holder::HolderError,
    status::{from_command, from_convert, from_holder, internal, invalid},
};

impl BuildsService {
    /// Admits the build that repeats another.
    pub(super) async fn repeat(
        &self,
        caller: &Caller,
        message: v1::RebuildRequest,
        traceparent: Option<Traceparent>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let first = parse_build(&message.build, caller)?;
        let key = IdempotencyKey::new(&message.key).map_err(invalid)?;
        let platforms = message.platforms.into_iter().map(Platform::try_from).collect::<Result<Vec<_>, _>>();
        let platforms = platforms.map_err(|e| from_convert(&e))?;
        let wishes = message.wishes.map(Wishes::try_from).transpose().map_err(|e| from_convert(&e))?;
        let record = self.remembered(&first).await?;
        let spec = record
            .rebuild(&platforms, wishes.unwrap_or_default())
            .map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        self.check_held(&record).await?;
        self.check_spec(&first.project, &spec)?;
        self.admit(caller, first.project, key, Box::new(spec), (traceparent, None)).await
    }

    /// A build whose source and artifacts may still be held.
    async fn remembered(&self, build: &BuildId) -> Result<BuildRecord, Status> {
        let asked = build.clone();
        let known = self.handle.read(move |machine| machine.build(&asked).cloned()).await;
        if let Some(record) = known.map_err(from_command)? {
            return Ok(record);
        }
        let found = self.history.build(build).await.map_err(|e| internal("history cannot be read", e))?;
        Err(match found {
            Some(_) => gone(build, "it ended long ago, and what it made is kept no more"),
            None => Status::not_found(format!("no build {build}")),
        })
    }

    /// Keeps what the first build was made from and made, for as long as the second takes.
    async fn check_held(&self, first: &BuildRecord) -> Result<(), Status> {
        let project = &first.id.project;
        let artifacts = first.tasks.iter().flat_map(|task| match &task.state {
            TaskState::Succeeded { artifacts, .. } => artifacts.as_slice(),
            _ => &[],
        });
        let blobs: Vec<Digest> = artifacts.flat_map(Artifact::blobs).collect();
        self.holder.keep_blobs(project, blobs).await.map_err(|error| match error {
            HolderError::Missing { digest } => {
                gone(&first.id, &format!("blob {digest} of what it made is no longer held"))
            }
            other => from_holder(other),
        })?;
        let Source::Tree { root, .. } = &first.spec.source else { return Ok(()) };
        self.holder.keep_tree(project, *root).await.map_err(|error| match error {
            HolderError::Missing { .. } => {
                gone(&first.id, &format!("its source tree {root} is no longer held"))
            }
            other => from_holder(other),
        })
    }
}

fn gone(build: &BuildId, why: &str) -> Status {
    Status::failed_precondition(format!(
        "build {build} cannot be rebuilt: {why}; build the same source again instead"
    ))
}
