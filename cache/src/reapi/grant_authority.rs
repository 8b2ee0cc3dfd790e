//! Members of the fleet as clients of the remote execution API: who shows a certificate and a grant for the cache.
//!
//! The instance's name is the scope, such as `acme/trusted`. Reading takes a grant that lets its agent read the scope,
//! writing one that lets it write there, the same that agents show one another at their shards.

use std::sync::Arc;

use super::{
    authority::{Admission, Authority, Caller},
    error::ReapiError,
    name::Instance,
};
use crate::{manifest::Vouching, shard::CallerName};

/// The header with the grant: the coordinator's signed word as it came, in binary.
pub const GRANT_HEADER: &str = "meridian-cache-grant-bin";

/// Admits agents by the coordinator's grants.
pub struct GrantAuthority {
    vouching: Arc<dyn Vouching>,
    caller: Arc<CallerName>,
}

impl GrantAuthority {
    /// By the grants that `vouching` believes, of callers whose certificate `caller` reads.
    #[must_use]
    pub fn new(vouching: Arc<dyn Vouching>, caller: Arc<CallerName>) -> Self {
        Self { vouching, caller }
    }
}

impl Authority for GrantAuthority {
    fn admit(&self, caller: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
        let name = (self.caller)(caller.extensions)
            .ok_or_else(|| ReapiError::Forbidden("only agents of the fleet come in here".to_owned()))?;
        let grant = caller.metadata.get_bin(GRANT_HEADER).and_then(|value| value.to_bytes().ok());
        let grant =
            grant.ok_or_else(|| ReapiError::Forbidden(format!("{GRANT_HEADER} with a grant is missing")))?;
        let scope = instance.as_str();
        let may_write = self.vouching.may_write(scope, &grant, Some(&name)).is_ok();
        if !may_write {
            let may_read = self.vouching.may_read(scope, &grant, Some(&name));
            may_read.map_err(|error| ReapiError::Forbidden(error.to_string()))?;
        }
        Ok(Admission { scope: instance.clone(), may_write })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tonic::metadata::{MetadataMap, MetadataValue};

    use super::*;
    use crate::manifest::{Manifest, Voucher, VouchingError};

    /// Believes grants of the form `AGENT READS WRITES`.
    struct Words;

    impl Words {
        fn judge(grant: &[u8], caller: Option<&str>, place: usize, scope: &str) -> Result<(), VouchingError> {
            let text = std::str::from_utf8(grant).unwrap();
            let words: Vec<&str> = text.split(' ').collect();
            let counts = caller == Some(words[0]) && words[place] == scope;
            counts.then_some(()).ok_or_else(|| VouchingError("it does not".to_owned()))
        }
    }

    impl Vouching for Words {
        fn sign(&self, _: &str, _: &[u8]) -> Result<Voucher, VouchingError> {
            panic!("nothing is signed here")
        }

        fn check(&self, _: &Manifest, _: &[u8], _: &Voucher) -> Result<(), VouchingError> {
            panic!("nothing is checked here")
        }

        fn grant_to_read(&self, _: &str) -> Option<Bytes> {
            panic!("nobody is asked here")
        }

        fn grant_to_write(&self, _: &str) -> Option<Bytes> {
            panic!("nobody is asked here")
        }

        fn may_read(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
            Self::judge(grant, caller, 1, scope)
        }

        fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
            Self::judge(grant, caller, 2, scope)
        }
    }

    fn admitted(grant: Option<&str>, caller: Option<&str>, instance: &str) -> Option<bool> {
        let mut metadata = MetadataMap::new();
        if let Some(grant) = grant {
            metadata.insert_bin(GRANT_HEADER, MetadataValue::from_bytes(grant.as_bytes()));
        }
        let name = caller.map(str::to_owned);
        let authority = GrantAuthority::new(Arc::new(Words), Arc::new(move |_: &_| name.clone()));
        let caller = Caller { metadata: &metadata, extensions: &http::Extensions::new() };
        let admission = authority.admit(caller, &Instance::parse(instance).unwrap()).ok()?;
        assert_eq!(admission.scope.as_str(), instance);
        Some(admission.may_write)
    }

    #[test]
    fn an_agent_reads_and_writes_what_its_grant_names_and_nothing_else() {
        let (grant, agent) = (Some("eu/a acme/trusted acme/member/ann"), Some("eu/a"));
        assert_eq!(admitted(grant, agent, "acme/member/ann"), Some(true));
        assert_eq!(admitted(grant, agent, "acme/trusted"), Some(false));
        assert_eq!(admitted(grant, agent, "web/trusted"), None);
        assert_eq!(admitted(grant, Some("eu/b"), "acme/trusted"), None, "another one's grant");
        assert_eq!(admitted(grant, None, "acme/trusted"), None, "no certificate");
        assert_eq!(admitted(None, agent, "acme/trusted"), None, "no grant");
    }
}
