//! One source with all that verification needs: its piece, and the secrets that the piece names.

use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::verify::{Credential, Keyring};
use tollgate_spin_shell::{tenants, variable};
use tollgate_tenants::{Intake, Parameter};

pub(crate) struct Source {
    pub(crate) tenant: TenantName,
    pub(crate) name: SourceName,
    pub(crate) intake: Intake,
    pub(crate) keyring: Keyring,
    /// Beside the signature: one of them must be there, if there are any.
    pub(crate) credentials: Vec<Credential>,
}

impl Source {
    /// Reads a source's piece and its secrets; `Ok(None)` when there is no such source.
    ///
    /// # Errors
    /// In words, when its piece or its secrets are not usable.
    pub(crate) fn load(tenant: TenantName, name: SourceName) -> Result<Option<Self>, String> {
        let Some(intake) = tenants::intake(&tenant, &name)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            keyring: keyring(&intake)?,
            credentials: credentials(&intake)?,
            tenant,
            name,
            intake,
        }))
    }
}

fn keyring(intake: &Intake) -> Result<Keyring, String> {
    let mut secrets = Vec::new();
    for secret in &intake.secrets {
        secrets.push(SourceSecret {
            id: secret.id.clone(),
            text: variable(&secret.value)?,
            not_before: secret.not_before,
            not_after: secret.not_after,
        });
    }
    let mut parameters = Parameters::new();
    for (name, parameter) in &intake.parameters {
        let text = match parameter {
            Parameter::Text(text) => Secret::new(text.as_str()),
            Parameter::Secret(named) => variable(named)?,
        };
        parameters.insert(name.clone(), text);
    }
    Keyring::with_parameters(&intake.profile, &secrets, &parameters).map_err(|error| error.to_string())
}

fn credentials(intake: &Intake) -> Result<Vec<Credential>, String> {
    let bearer = intake
        .bearer
        .iter()
        .map(|token| Ok(Credential::bearer(&variable(token)?)));
    let basic = intake
        .basic
        .iter()
        .map(|basic| Ok(Credential::basic(&basic.user, &variable(&basic.password)?)));
    bearer.chain(basic).collect()
}
