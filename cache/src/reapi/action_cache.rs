//! ActionCache: what an action gave, given again only while all that it names is here.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::reapi::v2::{
    self, Action, ActionResult, Directory, GetActionResultRequest, Tree, UpdateActionResultRequest,
    action_cache_server::ActionCache,
};
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use super::{
    content::Content,
    error::ReapiError,
    name::{BlobName, Instance},
    server::{MESSAGE_LEN_MAX, Reapi},
};

/// Most bytes of outputs within a result. The rest of a message is for the result itself.
const INLINE_MAX: usize = 1 << 20;

/// Most bytes in a description of a tree.
const TREE_LEN_MAX: u64 = 64 << 20;

/// Most directories that are looked into for one result.
const DIRECTORIES_MAX: usize = 100_000;

#[async_trait]
impl ActionCache for Reapi {
    async fn get_action_result(
        &self,
        request: Request<GetActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let scope = self.admit(&request, &request.get_ref().instance_name)?.scope;
        let request = request.into_inner();
        let action = BlobName::read(request.action_digest.as_ref(), request.digest_function)?;
        let content = Arc::clone(&self.content);
        let get = move || {
            let known = Known { content: &content, scope: &scope };
            let bytes = content.result(&scope, &action.digest)?;
            let missing = || ReapiError::NotFound(format!("whole result of action {action}"));
            let mut result = ActionResult::decode(bytes).map_err(|_| missing())?;
            // Every look counts as a use, so what is found here stays a while.
            if !known.has_all_of(&result)? {
                return Err(missing());
            }
            known.put_inside(&mut result, &request);
            Ok(result)
        };
        Ok(Response::new(self.disk.run(get).await?))
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<ActionResult>, Status> {
        let scope = self.admit_writer(&request, &request.get_ref().instance_name)?;
        let UpdateActionResultRequest { action_digest, action_result, digest_function, .. } =
            request.into_inner();
        let action = BlobName::read(action_digest.as_ref(), digest_function)?;
        let result = action_result.ok_or_else(|| ReapiError::Invalid("no result in the request".into()))?;
        let content = Arc::clone(&self.content);
        let update = move || {
            let known = Known { content: &content, scope: &scope };
            known.demand_action(&action)?;
            // Also checks that every digest is one.
            if !known.has_all_of(&result)? {
                return Err(ReapiError::Precondition(format!("an output of action {action}")));
            }
            content.set_result(&scope, action.digest, &result.encode_to_vec())?;
            Ok(result)
        };
        Ok(Response::new(self.disk.run(update).await?))
    }
}

/// What one instance has.
struct Known<'a> {
    content: &'a Content,
    scope: &'a Instance,
}

impl Known<'_> {
    fn has(&self, digest: Option<&v2::Digest>) -> Result<bool, ReapiError> {
        Ok(self.content.touch(self.scope, &BlobName::read(digest, 0)?))
    }

    /// The API has clients send the action and its command before the result.
    fn demand_action(&self, name: &BlobName) -> Result<(), ReapiError> {
        let lacking = |what: &str| ReapiError::Precondition(format!("the {what} of action {name}"));
        let bytes = match self.content.read_whole(self.scope, name, MESSAGE_LEN_MAX as u64) {
            Err(ReapiError::NotFound(_) | ReapiError::Damaged(_)) => return Err(lacking("message")),
            read => read?,
        };
        let action = Action::decode(bytes)
            .map_err(|error| ReapiError::Invalid(format!("blob {name} is no action: {error}")))?;
        match self.has(action.command_digest.as_ref())? {
            true => Ok(()),
            false => Err(lacking("command")),
        }
    }

    /// Whether every blob that the result names is here.
    fn has_all_of(&self, result: &ActionResult) -> Result<bool, ReapiError> {
        let streams = [&result.stdout_digest, &result.stderr_digest];
        for digest in streams.into_iter().flatten() {
            if !self.has(Some(digest))? {
                return Ok(false);
            }
        }
        for file in &result.output_files {
            if !self.has(file.digest.as_ref())? {
                return Ok(false);
            }
        }
        for directory in &result.output_directories {
            let (tree, root) = (directory.tree_digest.as_ref(), directory.root_directory_digest.as_ref());
            if (tree.is_some() || root.is_none()) && !self.has_tree(tree)? {
                return Ok(false);
            }
            if root.is_some() && !self.has_directories(root)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A blob that is here, or `None`.
    fn message(&self, digest: Option<&v2::Digest>, most: u64) -> Result<Option<Bytes>, ReapiError> {
        match self.content.read_whole(self.scope, &BlobName::read(digest, 0)?, most) {
            Err(ReapiError::NotFound(_) | ReapiError::Damaged(_)) => Ok(None),
            read => read.map(Some),
        }
    }

    fn has_tree(&self, digest: Option<&v2::Digest>) -> Result<bool, ReapiError> {
        let Some(bytes) = self.message(digest, TREE_LEN_MAX)? else { return Ok(false) };
        let tree = Tree::decode(bytes).map_err(|error| ReapiError::Invalid(format!("a tree: {error}")))?;
        for directory in tree.root.iter().chain(&tree.children) {
            if !self.has_files(directory)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_files(&self, directory: &Directory) -> Result<bool, ReapiError> {
        for file in &directory.files {
            if !self.has(file.digest.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_directories(&self, root: Option<&v2::Digest>) -> Result<bool, ReapiError> {
        let mut waiting: Vec<Option<v2::Digest>> = vec![root.cloned()];
        let mut seen: HashSet<Digest> = HashSet::new();
        while let Some(digest) = waiting.pop() {
            if !seen.insert(BlobName::read(digest.as_ref(), 0)?.digest) {
                continue;
            }
            if seen.len() > DIRECTORIES_MAX {
                return Err(ReapiError::Invalid(format!(
                    "more than {DIRECTORIES_MAX} directories in a result"
                )));
            }
            let Some(bytes) = self.message(digest.as_ref(), MESSAGE_LEN_MAX as u64)? else {
                return Ok(false);
            };
            let directory = Directory::decode(bytes)
                .map_err(|error| ReapiError::Invalid(format!("a directory of a result: {error}")))?;
            if !self.has_files(&directory)? {
                return Ok(false);
            }
            waiting.extend(directory.directories.into_iter().map(|child| child.digest));
        }
        Ok(true)
    }

    /// Puts outputs that the client wants into the result itself, as far as they fit.
    fn put_inside(&self, result: &mut ActionResult, request: &GetActionResultRequest) {
        let mut room = INLINE_MAX.min(MESSAGE_LEN_MAX.saturating_sub(result.encoded_len()));
        let mut inside = |digest: &Option<v2::Digest>, into: &mut Bytes| {
            let Ok(name) = BlobName::read(digest.as_ref(), 0) else { return };
            // What cannot be read now is asked for by itself, and fails there.
            if into.is_empty()
                && let Ok(bytes) = self.content.read_whole(self.scope, &name, room as u64)
            {
                room -= bytes.len();
                *into = bytes;
            }
        };
        if request.inline_stdout {
            inside(&result.stdout_digest, &mut result.stdout_raw);
        }
        if request.inline_stderr {
            inside(&result.stderr_digest, &mut result.stderr_raw);
        }
        for file in &mut result.output_files {
            if request.inline_output_files.contains(&file.path) {
                inside(&file.digest, &mut file.contents);
            }
        }
    }
}
