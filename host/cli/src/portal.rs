//! `tollgate portal`: links that open the console for one tenant, for a time and for what they list.

use tollgate_api::plugins::TenantPath;
use tollgate_api::portal::{LinkView, LinksQuery, NewLinkBody};
use tollgate_api::tokens::{RevokeBody, RevokedToken, TokenPath};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Caller;
use tollgate_core::mask;
use tollgate_store::Control as _;

use super::show::{BAD, BOLD, DIM, GOOD, because};
use super::{Exit, Refused, Target, Usage, ask, print_json};
use tollgate_server::clock;
use tollgate_server::operator::{NoLink, create_link, known_tenant, links};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a link; it is shown once
    #[command(
        after_help = "The link leads to the address that [console] names, or to the private listener. Whoever opens it is asked to go in, and a look at it uses nothing \
                            up: it may be opened again until it ends. What is done by it stands in the history under its name. It can do no more than what it lists:\n\n  \
                            read       see what came in and what became of it, and the plugins\n  \
                            replay     put work back that ended\n  \
                            redeliver  send deliveries again\n  \
                            review     decide about what is held\n  \
                            issues     acknowledge, resolve and ignore issues\n  \
                            bulk       do so to all that fits a filter\n  \
                            pause      pause and resume routes and destinations\n  \
                            settings   see and change the tenant's settings, and set secrets\n\n\
                            Each but settings needs read. Whoever makes a link gives no more than they have: the operator, or a tenant's admin for that tenant.\n\n\
                            Exit status: 0 done, 3 it is refused."
    )]
    Create {
        #[command(flatten)]
        target: Target,
        /// The tenant whose console it opens
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        link: NewLinkBody,
    },
    /// List the links that are open, without their secrets
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        query: LinksQuery,
    },
    /// End a link; whoever came by it is out at the next request
    Revoke {
        #[command(flatten)]
        target: Target,
        /// For example tok_3
        id: String,
        /// Why it is revoked, kept with it
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Create { target, tenant, link } => create(&target, &tenant, link),
        Command::List { target, query } => list(&target, &query),
        Command::Revoke { target, id, why } => revoke(&target, &id, why),
    }
}

fn create(target: &Target, tenant: &str, body: NewLinkBody) -> anyhow::Result<Exit> {
    let body = NewLinkBody {
        actor: ask::actor(),
        ..body
    };
    let path = TenantPath {
        tenant: tenant.parse().map_err(|error| Usage(format!("{error}")))?,
    };
    let (dry_run, now) = (body.dry_run, clock::now());
    let wanted = body
        .clone()
        .checked(path.tenant.clone(), now)
        .map_err(|error| Usage(format!("--{error}")))?;
    let link = ask::write::<calls::CreatePortalLink>(target, &path, &body, async |store, config| {
        // Whoever opens the store may do anything with it; a host asks who it is that asks.
        let whole = Caller::operator();
        whole
            .may_link(&wanted.tenant, wanted.capabilities, wanted.ends_at)
            .map_err(Refused)?;
        known_tenant(config, Some(&wanted.tenant)).map_err(Refused)?;
        match create_link(store, &config.console, config.operator.listen, wanted, dry_run).await {
            Ok(link) => Ok(link),
            Err(NoLink::Refused(why)) => Err(Refused(why).into()),
            Err(NoLink::Store(error)) => Err(error.into()),
        }
    })?;
    if target.json {
        print_json(&link)?;
        return Ok(Exit::Yes);
    }
    let may = link.may.join(", ");
    match (&link.id, &link.url) {
        (Some(id), Some(url)) => {
            anstream::println!(
                "{GOOD}{id}{GOOD:#}  {} of {}: {may}, until {}",
                mask::line(&link.name, 100),
                link.tenant,
                link.ends_at
            );
            anstream::println!("{url}");
            anstream::println!("{DIM}hand it on now: the host keeps its digest only{DIM:#}");
        }
        _ => anstream::println!(
            "would be made: {} of {}: {may}, until {}",
            mask::line(&link.name, 100),
            link.tenant,
            link.ends_at
        ),
    }
    Ok(Exit::Yes)
}

fn list(target: &Target, query: &LinksQuery) -> anyhow::Result<Exit> {
    let (tenant, all) = query.clone().checked().map_err(|error| Usage(format!("--{error}")))?;
    let found = ask::ask::<calls::PortalLinks>(target, &Nothing {}, query, async |store| {
        links(&store, tenant.as_ref(), all).await
    })?;
    if target.json {
        print_json(&found)?;
    } else if found.is_empty() {
        anstream::println!("no portal link is open");
    } else {
        found.iter().for_each(show);
    }
    Ok(Exit::Yes)
}

fn show(link: &LinkView) {
    let end = match (&link.revoked_at, link.is_open()) {
        (Some(at), _) => format!(
            "{BAD}revoked {at}{BAD:#} by {}{}",
            mask::line(link.revoked_by.as_deref().unwrap_or_default(), 100),
            because(link.revoked_why.as_deref().unwrap_or_default())
        ),
        (None, true) => format!("until {}", link.ends_at),
        (None, false) => format!("{DIM}over since {}{DIM:#}", link.ends_at),
    };
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {}  {}  {}  {end}  {DIM}made {} by {}{}{DIM:#}",
        link.id,
        link.tenant,
        mask::line(&link.name, 100),
        link.may.join(","),
        link.created_at,
        mask::line(&link.created_by, 100),
        because(&link.why),
    );
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
    let done = ask::write::<calls::RevokePortalLink>(target, &path, &body, async |store, _| {
        if !links(store, None, true).await?.iter().any(|link| link.id == token) {
            anyhow::bail!("{token} is no portal link");
        }
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
