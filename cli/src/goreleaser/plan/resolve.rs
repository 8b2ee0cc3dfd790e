//! The steps in their order, and what they share.

use std::{collections::BTreeMap, sync::Arc};

use crate::goreleaser::{
    config::{Config, Text},
    template::{self, Fields, Scope, Template, Value},
};

use super::{
    artifact::Artifact,
    context::{Context, GitFacts},
    error::{PlanError, PlanErrors},
    model::Plan,
};

/// Where GoReleaser puts everything when the configuration does not say.
pub(crate) const DIST: &str = "dist";
/// What a snapshot's version is when the configuration does not say.
const SNAPSHOT_VERSION: &str = "{{ .Version }}-SNAPSHOT-{{ .ShortCommit }}";
/// The date of a commit that there is not: Go's zero time.
const NO_COMMIT_SECONDS: i64 = -62_135_596_800;
/// The tag of a snapshot that has none.
pub(crate) const NO_TAG: &str = "v0.0.0";
/// More errors than anybody reads.
const ERRORS_MAX: usize = 100;

impl Config {
    /// Computes what GoReleaser would build and upload.
    ///
    /// # Errors
    /// Everything that keeps the configuration from being a plan, at once.
    pub fn resolve(&self, context: &Context) -> Result<Plan, PlanErrors> {
        let mut resolver = Resolver::new(self, context);
        resolver.run();
        if resolver.errors.is_empty() { Ok(resolver.plan) } else { Err(PlanErrors(resolver.errors)) }
    }
}

/// A plan that is being made.
pub(super) struct Resolver<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a Context,
    pub(super) plan: Plan,
    pub(super) artifacts: Vec<Artifact>,
    /// The template fields that everything has.
    pub(super) scope: Scope,
    pub(super) env: Arc<BTreeMap<String, String>>,
    pub(super) dist: String,
    errors: Vec<PlanError>,
}

impl<'a> Resolver<'a> {
    fn new(config: &'a Config, context: &'a Context) -> Self {
        let env = Arc::new(context.env.clone());
        let now_ms = i64::try_from(context.now.0).unwrap_or(i64::MAX);
        let fields = fields(config, context);
        Self {
            config,
            context,
            plan: Plan::default(),
            artifacts: Vec::new(),
            scope: Scope::new(fields, Arc::clone(&env), now_ms, context.directory.clone()),
            env,
            dist: config.dist.as_ref().map_or(DIST, |dist| dist.text.as_str()).to_owned(),
            errors: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.plan.dist = template::clean(&self.dist);
        self.environment();
        self.version();
        if self.plan.project_name.is_empty() {
            return;
        }
        self.before_hooks();
        self.builds();
        self.universal_binaries();
        self.binary_signatures();
        self.check_referred();
        self.archives();
        self.source_archive();
        self.documents();
        self.checksums();
        self.signatures();
        self.check_names();
    }

    /// Notes an error once.
    pub(super) fn error(&mut self, error: PlanError) {
        if self.errors.len() < ERRORS_MAX && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Renders a text; an error is noted, and nothing comes of it.
    pub(super) fn render(&mut self, text: &Text, scope: &Scope) -> Option<String> {
        match Template::parse(&text.text).and_then(|template| template.render(scope)) {
            Ok(rendered) => Some(rendered),
            Err(source) => {
                self.error(PlanError::Template { place: text.place.clone(), source });
                None
            }
        }
    }

    /// Renders a text that may be absent, which is an empty one.
    pub(super) fn render_optional(&mut self, text: Option<&Text>, scope: &Scope) -> Option<String> {
        text.map_or_else(|| Some(String::new()), |text| self.render(text, scope))
    }

    /// Renders a text to a truth value, as GoReleaser does: whatever is not `true` is false.
    pub(super) fn render_flag(&mut self, text: Option<&Text>) -> bool {
        let scope = self.scope.clone();
        self.render_optional(text, &scope).is_some_and(|rendered| rendered.trim().to_lowercase() == "true")
    }

    /// Renders texts and leaves out those that are empty then.
    pub(super) fn render_all(&mut self, texts: &[Text], scope: &Scope) -> Vec<String> {
        let rendered = texts.iter().filter_map(|text| self.render(text, scope));
        rendered.filter(|text| !text.is_empty()).collect()
    }

    /// Notes ids that several elements of a section have.
    pub(super) fn check_ids(&mut self, section: &'static str, ids: impl Iterator<Item = String>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for id in ids {
            *counts.entry(id).or_default() += 1;
        }
        for (id, count) in counts {
            if count > 1 {
                self.error(PlanError::DuplicateId { section, id, count });
            }
        }
    }

    /// The fields of an artifact with those that everything has.
    pub(super) fn scope_of(&self, artifact: &Artifact) -> Scope {
        self.scope.with(artifact.fields(&self.plan.project_name))
    }

    /// `env`: rendered before anything is known of git, from the environment of the process alone.
    fn environment(&mut self) {
        let unknown = git_fields(&GitFacts { commit_seconds: NO_COMMIT_SECONDS, ..GitFacts::default() }, "");
        let scope =
            self.scope.with(unknown).with([("Version", Value::text("")), ("ModulePath", Value::text(""))]);
        let config = self.config;
        let mut env = self.context.env.clone();
        for text in &config.env {
            if let Some(rendered) = self.render(text, &scope)
                && let Some((name, value)) = rendered.split_once('=')
                && !name.is_empty()
            {
                env.insert(name.to_owned(), value.to_owned());
                self.plan.env.insert(name.to_owned(), value.to_owned());
            }
        }
        self.env = Arc::new(env);
        self.scope = self.scope.with_env(Arc::clone(&self.env));
    }

    /// The project's name, the tag, and for a snapshot its own version.
    fn version(&mut self) {
        match project_name(self.config, self.context) {
            Some(name) => self.plan.project_name = name,
            None => self.error(PlanError::NoProjectName),
        }
        let name = Value::text(&self.plan.project_name);
        self.scope = self.scope.with([("ProjectName", name)]);
        let tag = self.context.git.as_ref().and_then(|git| git.tag.as_deref());
        if !self.context.is_snapshot {
            match tag {
                None => self.error(PlanError::NoTag),
                Some(tag) if template::loose(tag).is_none() => {
                    self.error(PlanError::TagIsNoVersion(tag.to_owned()));
                }
                Some(_) => {}
            }
        }
        let tag = tag.unwrap_or(NO_TAG);
        self.plan.version = tag.strip_prefix('v').unwrap_or(tag).to_owned();
        if self.context.is_snapshot {
            let text = self.config.snapshot_version.clone();
            let text =
                text.unwrap_or_else(|| Text::default_of("snapshot.version_template", SNAPSHOT_VERSION));
            let scope = self.scope.with([("ModulePath", Value::text(""))]);
            if let Some(version) = self.render(&text, &scope) {
                if version.is_empty() {
                    self.error(PlanError::EmptyVersion(text.place));
                }
                self.plan.version = version;
            }
        }
        self.scope = self.scope.with([("Version", Value::text(&self.plan.version))]);
    }

    fn before_hooks(&mut self) {
        let scope = self.scope.with([("ModulePath", Value::text(""))]);
        let config = self.config;
        self.plan.before_hooks = self.render_all(&config.before_hooks, &scope);
    }

    /// Notes names that no file in the output directory can have.
    fn check_names(&mut self) {
        let names: Vec<String> = self.artifacts.iter().map(|artifact| artifact.name.clone()).collect();
        for name in names {
            let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
            let is_plain = !name.contains(|c: char| c == '\\' || c.is_control());
            if !(is_plain && name.split('/').all(is_part)) {
                self.error(PlanError::Name(name.chars().take(100).collect()));
            }
        }
    }
}

/// What the project is called: what it says, else its names elsewhere, else the module's last element.
fn project_name(config: &Config, context: &Context) -> Option<String> {
    let said = config.project_name.as_ref().map(|text| text.text.clone());
    let module = context.module_path.as_deref().and_then(|path| path.rsplit('/').next());
    let candidates = said
        .into_iter()
        .chain(context.cargo_name.clone())
        .chain(config.release_names.iter().map(|text| text.text.clone()))
        .chain(module.map(str::to_owned))
        .chain(context.remote_name.clone());
    candidates.into_iter().find(|name| !name.is_empty())
}

/// The template fields that everything has.
fn fields(config: &Config, context: &Context) -> Fields {
    let none = GitFacts {
        branch: "none".to_owned(),
        commit: "none".to_owned(),
        short_commit: "none".to_owned(),
        summary: "none".to_owned(),
        commit_seconds: NO_COMMIT_SECONDS,
        ..GitFacts::default()
    };
    let git = context.git.as_ref().unwrap_or(&none);
    let tag = git.tag.as_deref().unwrap_or(NO_TAG);
    let mut fields: Fields = git_fields(git, tag).into_iter().collect();
    let now_ms = i64::try_from(context.now.0).unwrap_or(i64::MAX);
    let seconds = now_ms.div_euclid(1000);
    let (goos, goarch) = &context.host;
    let runtime: Fields =
        [("Goos", Value::text(goos)), ("Goarch", Value::text(goarch))].into_iter().collect();
    let name = config.project_name.as_ref().map(|text| text.text.as_str()).unwrap_or_default();
    fields.extend([
        ("ProjectName", Value::text(name)),
        ("ModulePath", Value::text(context.module_path.as_deref().unwrap_or_default())),
        ("Version", Value::text(tag.strip_prefix('v').unwrap_or(tag))),
        ("Date", Value::Text(template::rfc3339(seconds))),
        ("Timestamp", Value::Int(seconds.into())),
        ("Now", Value::Time(now_ms)),
        ("IsSnapshot", Value::Bool(context.is_snapshot)),
        ("IsSingleTarget", Value::Bool(context.single_target)),
        ("IsNightly", Value::Bool(false)),
        ("IsDraft", Value::Bool(config.is_draft)),
        ("ReleaseNotes", Value::text("")),
        ("ReleaseURL", Value::text("")),
        ("Runtime", Value::Fields(Arc::new(runtime))),
    ]);
    fields
}

fn git_fields(git: &GitFacts, tag: &str) -> Vec<(&'static str, Value)> {
    let version = template::loose(tag);
    let [major, minor, patch] = version.as_ref().map_or([0; 3], |version| version.numbers);
    let prerelease = version.map(|version| version.prerelease).unwrap_or_default();
    // Without a tag GoReleaser does not look whether anything has changed.
    let is_dirty = git.is_dirty && git.tag.is_some();
    vec![
        ("RawVersion", Value::Text(format!("{major}.{minor}.{patch}"))),
        ("Major", Value::Int(major.into())),
        ("Minor", Value::Int(minor.into())),
        ("Patch", Value::Int(patch.into())),
        ("Prerelease", Value::Text(prerelease)),
        ("Tag", Value::text(tag)),
        ("PreviousTag", Value::text(&git.previous_tag)),
        ("Branch", Value::text(&git.branch)),
        ("Commit", Value::text(&git.commit)),
        ("FullCommit", Value::text(&git.commit)),
        ("ShortCommit", Value::text(&git.short_commit)),
        ("CommitDate", Value::Text(template::rfc3339(git.commit_seconds))),
        ("CommitTimestamp", Value::Int(git.commit_seconds.into())),
        ("GitURL", Value::text(&git.url)),
        ("Summary", Value::text(&git.summary)),
        ("TagSubject", Value::text(&git.tag_subject)),
        ("TagContents", Value::text(&git.tag_contents)),
        ("TagBody", Value::text(&git.tag_body)),
        ("IsGitDirty", Value::Bool(is_dirty)),
        ("IsGitClean", Value::Bool(!is_dirty)),
        ("GitTreeState", Value::text(if is_dirty { "dirty" } else { "clean" })),
    ]
}
