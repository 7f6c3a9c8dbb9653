//! Who is signed in. A session belongs to the token that it was opened with: it has that token's role and tenant, and every page asks
//! with it, so a token that is revoked ends its sessions. It ends as well by signing out, after some time without a request, and with
//! the process: nothing of it is kept anywhere else.
//!
//! Time and randomness are arguments. A browser never chooses a session's name: each sign-in draws a new one.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use tollgate_api::whoami::WhoAmI;
use tollgate_core::limits;
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;

use crate::act::Act;

/// 32 random bytes.
pub(crate) type Random = [u8; 32];

/// Everybody who is signed in.
#[derive(Default)]
pub(crate) struct Sessions {
    /// By the SHA-256 of the session's name: how long a lookup takes says nothing about names.
    by_digest: BTreeMap<[u8; 32], Session>,
}

/// What a session's name begins with that was opened by a portal link: when it is over, its reader has no token to sign in with.
pub(crate) const BY_LINK: &str = "link.";

struct Session {
    token: Secret,
    form_key: Secret,
    who: WhoAmI,
    is_framed: bool,
    began_at: UnixMillis,
    used_at: UnixMillis,
    /// What was looked at and not confirmed yet, by number.
    acts: BTreeMap<u32, Kept>,
    last_act: u32,
}

/// Something that was looked at.
struct Kept {
    act: Act,
    bytes: usize,
    at: UnixMillis,
}

/// What a page knows of whoever reads it.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// What the page asks with.
    pub(crate) token: Secret,
    /// Stands in every form of the session and is asked for when one comes back.
    pub(crate) form_key: String,
    pub(crate) who: WhoAmI,
    /// Whether it was opened in a frame of a page that may have it there.
    pub(crate) is_framed: bool,
}

/// Somebody who signs in.
pub(crate) struct Newcomer {
    pub(crate) token: Secret,
    pub(crate) who: WhoAmI,
    pub(crate) is_framed: bool,
}

impl Sessions {
    /// Opens a session, and returns its name, for the cookie. Of one token there are so many at most, of one tenant, and of all: the
    /// one that was used the longest ago makes room.
    pub(crate) fn open(&mut self, newcomer: Newcomer, random: [Random; 2], now: UnixMillis) -> Secret {
        let Newcomer { token, who, is_framed } = newcomer;
        self.by_digest.retain(|_, session| session.is_open(now));
        self.make_room(limits::CONSOLE_SESSIONS_OF_TOKEN_MAX, |session| {
            session.token.matches(token.expose())
        });
        if who.tenant.is_some() {
            // However many links a tenant makes, it ends nobody else's sessions.
            self.make_room(limits::CONSOLE_SESSIONS_OF_TENANT_MAX, |session| {
                session.who.tenant == who.tenant
            });
        }
        self.make_room(limits::CONSOLE_SESSIONS_MAX, |_| true);
        let kind = if is_link(&who) { BY_LINK } else { "" };
        let [name, form_key] = random.map(|bytes| BASE64URL_NOPAD.encode(&bytes));
        let (name, form_key) = (Secret::new(format!("{kind}{name}")), Secret::new(form_key));
        let session = Session {
            token,
            form_key,
            who,
            is_framed,
            began_at: now,
            used_at: now,
            acts: BTreeMap::new(),
            last_act: 0,
        };
        self.by_digest.insert(digest(name.expose()), session);
        name
    }

    /// Ends sessions until there is room for one more of these.
    fn make_room(&mut self, most: usize, of: impl Fn(&Session) -> bool) {
        loop {
            let such = self.by_digest.iter().filter(|(_, session)| of(session));
            let (count, oldest) = (such.clone().count(), such.min_by_key(|(_, session)| session.used_at));
            match oldest.map(|(digest, _)| *digest) {
                Some(digest) if count >= most => self.by_digest.remove(&digest),
                Some(_) | None => return,
            };
        }
    }

    /// Who has the session of this name, which counts as a use of it. None when there is no such session, or it was not used for too long.
    pub(crate) fn visitor(&mut self, name: &[u8], now: UnixMillis) -> Option<Visitor> {
        let session = self.session(name, now)?;
        session.used_at = now;
        Some(Visitor {
            token: session.token.clone(),
            form_key: String::from_utf8_lossy(session.form_key.expose()).into_owned(),
            who: session.who.clone(),
            is_framed: session.is_framed,
        })
    }

    /// Ends a session.
    pub(crate) fn end(&mut self, name: &[u8]) {
        self.by_digest.remove(&digest(name));
    }

    /// Keeps what somebody looked at, to be done when they say so. Returns its number. There are so many of one session at most, and
    /// so many bytes of one tenant and of all: the oldest make room.
    pub(crate) fn keep(&mut self, name: &[u8], act: Act, now: UnixMillis) -> Option<u32> {
        let session = self.session(name, now)?;
        if session.acts.len() >= limits::CONSOLE_ACTS_MAX {
            session.acts.pop_first();
        }
        session.last_act += 1;
        let (number, tenant) = (session.last_act, session.who.tenant.clone());
        let (bytes, at) = (act.bytes(), now);
        session.acts.insert(number, Kept { act, bytes, at });
        self.forget_acts(limits::CONSOLE_ACTS_BYTES_OF_TENANT_MAX, |session| {
            session.who.tenant == tenant
        });
        self.forget_acts(limits::CONSOLE_ACTS_BYTES_MAX, |_| true);
        Some(number)
    }

    /// Forgets the oldest of what these sessions keep, until it has so many bytes.
    fn forget_acts(&mut self, most: usize, of: impl Fn(&Session) -> bool) {
        let such = self.by_digest.iter().filter(|(_, session)| of(session));
        let kept = such.flat_map(|(digest, session)| {
            let acts = session.acts.iter();
            acts.map(|(number, kept)| (kept.at, *digest, *number, kept.bytes))
        });
        let mut kept: Vec<_> = kept.collect();
        let mut bytes: usize = kept.iter().map(|(.., bytes)| bytes).sum();
        kept.sort_unstable();
        for (_, digest, number, its) in kept {
            if bytes <= most {
                return;
            }
            if let Some(session) = self.by_digest.get_mut(&digest) {
                session.acts.remove(&number);
            }
            bytes -= its;
        }
    }

    /// Takes what was kept: it is done once, however often its form is sent.
    pub(crate) fn take(&mut self, name: &[u8], number: u32, now: UnixMillis) -> Option<Act> {
        let kept = self.session(name, now)?.acts.remove(&number);
        kept.map(|kept| kept.act)
    }

    fn session(&mut self, name: &[u8], now: UnixMillis) -> Option<&mut Session> {
        let digest = digest(name);
        if !self.by_digest.get(&digest)?.is_open(now) {
            self.by_digest.remove(&digest);
            return None;
        }
        self.by_digest.get_mut(&digest)
    }
}

impl Session {
    fn is_open(&self, now: UnixMillis) -> bool {
        now.since(self.used_at) < limits::CONSOLE_IDLE_MS_MAX
            && now.since(self.began_at) < limits::CONSOLE_SESSION_MS_MAX
    }
}

/// Whether somebody came by a portal link.
pub(crate) fn is_link(who: &WhoAmI) -> bool {
    !who.may.is_empty()
}

fn digest(name: &[u8]) -> [u8; 32] {
    Sha256::digest(name).into()
}

#[cfg(test)]
mod tests {
    use tollgate_api::plugins::TenantPath;
    use tollgate_api::settings::{SecretBody, SecretPath, SecretText, SettingsBody};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_777_975_200_000);

    fn open(sessions: &mut Sessions, token: &str, drawn: u8, now: UnixMillis) -> Secret {
        open_of(sessions, None, token, drawn.into(), now)
    }

    fn open_of(sessions: &mut Sessions, tenant: Option<&str>, token: &str, drawn: u16, now: UnixMillis) -> Secret {
        let who = WhoAmI {
            name: "ana (tok_1)".to_owned(),
            role: "viewer".to_owned(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            tenants: Vec::new(),
            permissions: Vec::new(),
            ends_at: None,
            may: Vec::new(),
            accent: None,
            scheme: None,
        };
        let newcomer = Newcomer {
            token: Secret::new(token),
            who,
            is_framed: false,
        };
        let mut random = [[0; 32], [1; 32]];
        for one in &mut random {
            one[..2].copy_from_slice(&drawn.to_be_bytes());
        }
        sessions.open(newcomer, random, now)
    }

    fn settings(bytes: usize) -> Act {
        let path = TenantPath {
            tenant: "acme".parse().unwrap(),
        };
        let body = SettingsBody {
            text: "x".repeat(bytes),
            ..SettingsBody::default()
        };
        Act::Settings(path, Box::new(body))
    }

    #[test]
    fn o8_a_session_ends_when_it_is_not_used_and_when_it_is_old() {
        let mut sessions = Sessions::default();
        let name = open(&mut sessions, "tgt_a", 1, NOW);
        let mut at = NOW;
        assert_eq!(sessions.visitor(name.expose(), at).unwrap().token.expose(), b"tgt_a");
        assert!(sessions.visitor(b"", at).is_none() && sessions.visitor(b"another", at).is_none());
        // Used again and again, it lasts as long as a session may.
        while at.since(NOW) + limits::CONSOLE_IDLE_MS_MAX / 2 < limits::CONSOLE_SESSION_MS_MAX {
            at = at.plus_ms(limits::CONSOLE_IDLE_MS_MAX / 2);
            assert!(sessions.visitor(name.expose(), at).is_some(), "{at}");
        }
        at = NOW.plus_ms(limits::CONSOLE_SESSION_MS_MAX);
        assert!(sessions.visitor(name.expose(), at).is_none());
        let name = open(&mut sessions, "tgt_a", 2, NOW);
        assert!(
            sessions
                .visitor(name.expose(), NOW.plus_ms(limits::CONSOLE_IDLE_MS_MAX))
                .is_none()
        );
        assert!(
            sessions.visitor(name.expose(), NOW).is_none(),
            "what is over stays over"
        );
    }

    #[test]
    fn o8_signing_out_ends_one_session_and_nobody_takes_everybodys_room() {
        let mut sessions = Sessions::default();
        let other = open(&mut sessions, "tgt_b", 0, NOW);
        let names: Vec<_> = (1..=limits::CONSOLE_SESSIONS_OF_TOKEN_MAX as u8 + 1)
            .map(|drawn| open(&mut sessions, "tgt_a", drawn, NOW.plus_ms(drawn.into())))
            .collect();
        let is_open =
            |sessions: &mut Sessions, name: &Secret| sessions.visitor(name.expose(), NOW.plus_ms(99)).is_some();
        assert!(!is_open(&mut sessions, &names[0]), "the oldest made room");
        assert!(is_open(&mut sessions, &names[1]) && is_open(&mut sessions, &other));
        sessions.end(names[1].expose());
        assert!(!is_open(&mut sessions, &names[1]) && is_open(&mut sessions, &names[2]));
    }

    #[test]
    fn o8_a_tenant_with_many_links_ends_nobody_elses_sessions() {
        let mut sessions = Sessions::default();
        let operator = open(&mut sessions, "tgt_op", 0, NOW);
        let other = open_of(&mut sessions, Some("globex"), "tgt_g", 1, NOW);
        let most = limits::CONSOLE_SESSIONS_MAX as u16;
        let names: Vec<_> = (2..2 + most)
            .map(|drawn| {
                let token = format!("tgl_{}", drawn / 16);
                open_of(&mut sessions, Some("acme"), &token, drawn, NOW.plus_ms(drawn.into()))
            })
            .collect();
        let mut is_open = |name: &Secret| sessions.visitor(name.expose(), NOW.plus_ms(5000)).is_some();
        assert!(is_open(&operator) && is_open(&other));
        let open = names.iter().filter(|name| is_open(name)).count();
        assert_eq!(open, limits::CONSOLE_SESSIONS_OF_TENANT_MAX);
        assert!(names.last().is_some_and(is_open), "the newest stay");
    }

    #[test]
    fn o8_what_is_kept_of_what_was_looked_at_is_bounded_in_bytes() {
        let mut sessions = Sessions::default();
        let kept_bytes = |sessions: &Sessions| -> usize {
            let all = sessions.by_digest.values().flat_map(|session| session.acts.values());
            all.map(|kept| kept.bytes).sum()
        };
        let other = open_of(&mut sessions, Some("globex"), "tgt_g", 0, NOW);
        let theirs = sessions.keep(other.expose(), settings(1), NOW).unwrap();
        let mut last = None;
        for drawn in 1..=10 {
            let name = open_of(&mut sessions, Some("acme"), &format!("tgl_{drawn}"), drawn, NOW);
            for ms in 0..limits::CONSOLE_ACTS_MAX as i64 {
                let now = NOW.plus_ms(1 + i64::from(drawn) * 100 + ms);
                let number = sessions.keep(name.expose(), settings(limits::SETTINGS_BYTES_MAX), now);
                last = Some((name.clone(), number.unwrap()));
            }
        }
        let bytes = kept_bytes(&sessions);
        let most = limits::CONSOLE_ACTS_BYTES_OF_TENANT_MAX;
        assert!(bytes > most / 2 && bytes <= most + 10_000, "{bytes}");
        let (name, number) = last.unwrap();
        assert!(
            sessions.take(name.expose(), number, NOW).is_some(),
            "the newest is there"
        );
        assert!(
            sessions.take(other.expose(), theirs, NOW).is_some(),
            "the other tenant's too"
        );
        for tenant in 0..12 {
            for drawn in 0..2 {
                let (token, drawn) = (format!("tgt_{tenant}_{drawn}"), 100 + tenant * 2 + drawn);
                let name = open_of(&mut sessions, Some(&format!("t{tenant}")), &token, drawn, NOW);
                for _ in 0..limits::CONSOLE_ACTS_MAX {
                    sessions
                        .keep(name.expose(), settings(limits::SETTINGS_BYTES_MAX), NOW)
                        .unwrap();
                }
            }
        }
        let bytes = kept_bytes(&sessions);
        let most = limits::CONSOLE_ACTS_BYTES_MAX;
        assert!(bytes > most / 2 && bytes <= most, "{bytes}");
        let secret = SecretBody {
            value: SecretText(Secret::new("x".repeat(9000))),
            why: "w".to_owned(),
            dry_run: false,
            actor: "a".to_owned(),
        };
        let path = SecretPath {
            tenant: "acme".parse().unwrap(),
            secret: "own".parse().unwrap(),
        };
        assert!(Act::Secret(path, secret).bytes() > 9000, "a secret counts");
    }

    #[test]
    fn o8_what_was_looked_at_is_done_once() {
        let mut sessions = Sessions::default();
        let (mine, yours) = (
            open(&mut sessions, "tgt_a", 1, NOW),
            open(&mut sessions, "tgt_b", 2, NOW),
        );
        let number = sessions.keep(mine.expose(), Act::example(), NOW).unwrap();
        assert!(sessions.take(yours.expose(), number, NOW).is_none());
        assert!(sessions.take(mine.expose(), number, NOW).is_some());
        assert!(sessions.take(mine.expose(), number, NOW).is_none());
    }
}
