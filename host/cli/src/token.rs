//! `tollgate token`: makes, lists and revokes the tokens of the private listener.

use tollgate_api::tokens::{NewTokenBody, RevokeBody, RevokedToken, TokenPath, TokenView};
use tollgate_api::whoami::WhoAmI;
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Caller;
use tollgate_core::ids::TenantName;
use tollgate_core::mask;
use tollgate_store::{Control as _, Views as _};

use super::{Exit, Refused, Target, TokenCommand, Usage, ask, print_json, show};
use tollgate_server::clock;
use tollgate_server::operator::{issue_token, known_tenant, not_issued};

pub(super) fn run(command: TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create { target, token } => create(&target, token),
        TokenCommand::List { target } => list(&target),
        TokenCommand::Whoami { target } => who_am_i(&target),
        TokenCommand::Revoke { target, id, why } => revoke(&target, &id, why),
    }
}

fn create(target: &Target, body: NewTokenBody) -> anyhow::Result<Exit> {
    let body = NewTokenBody {
        actor: ask::actor(),
        ..body
    };
    let dry_run = body.dry_run;
    let wanted = body.clone().checked(clock::now()).map_err(Usage)?;
    // Whoever opens the store may do anything with it; a host asks who it is that asks.
    let whole = tollgate_core::access::Caller::operator();
    whole
        .may_issue(wanted.role, wanted.tenant.as_ref(), wanted.expires_at)
        .map_err(Usage)?;
    let issued = ask::write::<calls::IssueToken>(target, &Nothing {}, &body, async |store, config| {
        known_tenant(config, wanted.tenant.as_ref()).map_err(Refused)?;
        match dry_run {
            true => Ok(not_issued(wanted)),
            false => Ok(issue_token(store, wanted).await?),
        }
    })?;
    if target.json {
        print_json(&issued)?;
    } else {
        let (good, dim) = (show::GOOD, show::DIM);
        let of = issued
            .tenant
            .as_ref()
            .map_or("the whole host", |tenant| tenant.as_str());
        match (&issued.id, &issued.token) {
            (Some(id), Some(token)) => {
                anstream::println!("{good}{id}{good:#}  {} of {of}: {}", issued.role, issued.name);
                anstream::println!("{token}");
                anstream::println!("{dim}keep it now: the host keeps its digest only{dim:#}");
            }
            _ => anstream::println!("would be made: {} of {of}: {}", issued.role, issued.name),
        }
    }
    Ok(Exit::Yes)
}

fn list(target: &Target) -> anyhow::Result<Exit> {
    let tokens = ask::ask::<calls::Tokens>(target, &Nothing {}, &Nothing {}, async |store| {
        Ok(store.tokens().await?.into_iter().map(TokenView::from).collect())
    })?;
    if target.json {
        print_json(&tokens)?;
    } else if tokens.is_empty() {
        anstream::println!("no tokens; the operator's own is in the configuration");
    }
    if !target.json {
        tokens.iter().for_each(show::token);
    }
    Ok(Exit::Yes)
}

fn who_am_i(target: &Target) -> anyhow::Result<Exit> {
    // Whoever opens the store may do anything with it.
    let who = ask::ask::<calls::WhoAmI>(target, &Nothing {}, &Nothing {}, async |_| {
        Ok(WhoAmI::of(&Caller::operator()))
    })?;
    if target.json {
        print_json(&who)?;
    } else {
        let (good, dim) = (show::GOOD, show::DIM);
        let of = who.tenant.as_ref().map_or("the whole host", |tenant| tenant.as_str());
        anstream::println!("{good}{}{good:#}  {} of {of}", mask::shown(&who.name), who.role);
        anstream::println!("{dim}may{dim:#} {}", who.permissions.join(", "));
        if who.tenant.is_none() && !who.tenants.is_empty() {
            let tenants: Vec<_> = who.tenants.iter().map(TenantName::as_str).collect();
            anstream::println!("{dim}tenants{dim:#} {}", tenants.join(", "));
        }
    }
    Ok(Exit::Yes)
}

fn revoke(target: &Target, id: &str, why: String) -> anyhow::Result<Exit> {
    let token = id.parse().map_err(|error| Usage(format!("{error}")))?;
    let path = TokenPath { token };
    let body = RevokeBody {
        why,
        dry_run: false,
        actor: ask::actor(),
    };
    let end = body.clone().checked(clock::now()).map_err(Usage)?;
    let done = ask::write::<calls::RevokeToken>(target, &path, &body, async |store, _| {
        let revoked = store.revoke_token(token, end).await?;
        Ok(RevokedToken { id: token, revoked })
    })?;
    if target.json {
        print_json(&done)?;
    } else if done.revoked {
        anstream::println!("{} is revoked", done.id);
    } else {
        anstream::println!("{} was revoked before", done.id);
    }
    Ok(if done.revoked { Exit::Yes } else { Exit::No })
}
