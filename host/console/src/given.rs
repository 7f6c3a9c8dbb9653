//! Tokens and portal links, as acts. What one is, is shown once: on the page that answers the form which made it.

use tollgate_api::plugins::TenantPath;
use tollgate_api::portal::NewLinkBody;
use tollgate_api::tokens::{NewTokenBody, RevokeBody, TokenPath};
use tollgate_api::{Nothing, calls};
use tollgate_core::mask;
use tollgate_core::secret::Secret;

use crate::Console;
use crate::asked::Trouble;
use crate::outcome::Outcome;
use crate::page::ends;
use crate::table::{Part, Table};

pub(crate) async fn token(console: &Console, asker: &Secret, body: &NewTokenBody) -> Result<Outcome, Trouble> {
    let nothing = Nothing {};
    let issued = console
        .ask::<calls::IssueToken>(asker, &nothing, &nothing, body)
        .await?;
    let of = issued
        .tenant
        .as_ref()
        .map_or("the whole host", |tenant| tenant.as_str());
    let until = match &issued.expires_at {
        Some(end) => format!("until {}", ends(end)),
        None => "until it is revoked".to_owned(),
    };
    let what = format!("{} of {of}, {until}: {}", issued.role, mask::line(&issued.name, 100));
    Ok(match (issued.id, issued.token) {
        (Some(id), Some(secret)) => Outcome {
            secret,
            ..Outcome::said(format!("{id} is made: {what}."))
        },
        _ => Outcome::said(format!("A token would be made: {what}.")),
    })
}

pub(crate) async fn link(
    console: &Console,
    asker: &Secret,
    path: &TenantPath,
    body: &NewLinkBody,
) -> Result<Outcome, Trouble> {
    let issued = console
        .ask::<calls::CreatePortalLink>(asker, path, &Nothing {}, body)
        .await?;
    let mut table = Table::new("what it lets its holder do", &[("It may", "main")]);
    table.rows = issued.may.iter().map(|word| vec![Part::told(word).into()]).collect();
    let what = format!(
        "for {} of {}, until {}",
        mask::line(&issued.name, 100),
        issued.tenant,
        ends(&issued.ends_at)
    );
    Ok(match (issued.id, issued.url) {
        (Some(id), Some(secret)) => Outcome {
            secret,
            table,
            ..Outcome::said(format!("{id} is made: a link {what}."))
        },
        _ => Outcome {
            table,
            ..Outcome::said(format!("A link would be made {what}."))
        },
    })
}

pub(crate) async fn revoke(
    console: &Console,
    asker: &Secret,
    path: &TokenPath,
    body: &RevokeBody,
) -> Result<Outcome, Trouble> {
    let done = console
        .ask::<calls::RevokeToken>(asker, path, &Nothing {}, body)
        .await?;
    Ok(Outcome {
        is_nothing: !done.revoked,
        ..Outcome::said(match (done.revoked, body.dry_run) {
            (false, _) => format!("{} was revoked before.", done.id),
            (true, true) => format!("{} would be revoked.", done.id),
            (true, false) => format!("{} is revoked.", done.id),
        })
    })
}
