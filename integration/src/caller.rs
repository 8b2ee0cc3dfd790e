//! Calls over gRPC under the identity that a member got by joining, for tests that need more than a command
//! line can ask at once.

use anyhow::Context as _;
use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    golang::platform::Platform,
};
use meridian_proto::v1;
use meridian_runtime::{
    identity::{Identity, LiveIdentity, SpiffeId},
    tls::{ChannelOptions, ClientTls, Profile, channel, install_crypto},
};
use tonic::transport::Channel;

use crate::{client::Client, fleet::FLEET};

/// A member's connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Caller {
    channel: Channel,
}

impl Caller {
    /// Connects as the member that `client` has joined as. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the client has not joined a fleet, or its identity cannot be used.
    pub fn of(client: &Client) -> anyhow::Result<Self> {
        install_crypto();
        let directory = client.home.state().join("fleets").join(FLEET);
        let identity = Identity::load(&directory)?.context("the client has joined no fleet")?;
        let tls = ClientTls {
            authority: identity.authority_der().to_vec(),
            identity: Some(LiveIdentity::new(identity)?),
            server: SpiffeId::new(FLEET, &["coordinator"])?,
        };
        let address = client.coordinator.as_deref().context("the client has no coordinator")?;
        Ok(Self { channel: channel(address, tls, &ChannelOptions::from_env(Profile::Control))? })
    }

    /// The service of builds.
    #[must_use]
    pub fn builds(&self) -> v1::builds_client::BuildsClient<Channel> {
        v1::builds_client::BuildsClient::new(self.channel.clone())
    }

    /// Asks for a build of a module that nobody will build: there is no agent.
    ///
    /// # Errors
    /// What the coordinator says instead.
    pub async fn submit(&self, project: &str, key: &str) -> Result<String, tonic::Status> {
        let request = v1::SubmitRequest {
            project: project.to_owned(),
            key: key.to_owned(),
            spec: Some((&spec()).into()),
            ways: Vec::new(),
        };
        Ok(self.builds().submit(request).await?.into_inner().build)
    }

    /// Gives a build up.
    ///
    /// # Errors
    /// What the coordinator says instead.
    pub async fn cancel(&self, build: &str) -> Result<(), tonic::Status> {
        self.builds().cancel(v1::CancelBuildRequest { build: build.to_owned() }).await?;
        Ok(())
    }
}

fn spec() -> BuildSpec {
    BuildSpec {
        source: Source::Module { package: "example.test/never".to_owned(), query: "v1.0.0".to_owned() },
        packages: vec![".".to_owned()],
        platforms: vec![Platform {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            level: "v1".to_owned(),
        }],
        toolchain: Toolchain::Default,
        flags: BuildFlags::default(),
        name: None,
        version: String::new(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}
