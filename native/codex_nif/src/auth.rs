//! Credentials. Work that may wait runs in a pool and answers its caller with a message.

use std::path::Path;
use std::time::Duration;

use codex_core::auth::keyring::{self, Bus, Fault};
use codex_core::auth::login::{Login, Method};
use codex_core::auth::{self, Failure, Mode, Origin, Request, Slot, jwt, mcp};
use rustler::{Atom, Binary, Encoder, Env, Error, NifMap, NifResult, ResourceArc, Term};

use crate::pool::{CallResource, PoolResource, answer, answer_blocking, path};

mod atoms {
    rustler::atoms! {
        ok, error, none,
        login, mcp,
        file, keyring, auto,
        unavailable, locked, timeout, ambiguous, content, other,
        invalid, io, held, crashed,
        api_key, chatgpt, chatgpt_auth_tokens, agent_identity, personal_access_token, bedrock_api_key,
        bedrock_access_keys,
        format, base64, json
    }
}

#[rustler::nif]
fn auth_load(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    request: Term<'_>,
) -> NifResult<Atom> {
    let request = decode(request)?;
    let login = request.slot == Slot::Login;
    answer(env, &pool, reference, auth::store::load(request), move |env, result| match result {
        Ok(Ok(loaded)) => match document(env, login, &loaded.text) {
            Some(document) => {
                (atoms::ok(), document, origin(env, &loaded.origin), fault(env, loaded.instead))
                    .encode(env)
            }
            // It was checked when it was read.
            None => (atoms::error(), atoms::crashed()).encode(env),
        },
        Ok(Err(why)) => (atoms::none(), fault(env, why)).encode(env),
        Err(why) => (atoms::error(), failure(env, why)).encode(env),
    })
}

#[rustler::nif]
fn auth_save(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    request: Term<'_>,
    text: String,
) -> NifResult<Atom> {
    let work = auth::store::save(decode(request)?, text);
    answer(env, &pool, reference, work, |env, result| match result {
        Ok(saved) => {
            (atoms::ok(), origin(env, &saved.origin), fault(env, saved.instead)).encode(env)
        }
        Err(why) => (atoms::error(), failure(env, why)).encode(env),
    })
}

#[rustler::nif]
fn auth_delete(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    request: Term<'_>,
) -> NifResult<Atom> {
    let work = auth::store::delete(decode(request)?);
    answer(env, &pool, reference, work, |env, result| match result {
        Ok(removed) => {
            (atoms::ok(), removed.keyring, removed.file, fault(env, removed.unchecked)).encode(env)
        }
        Err(why) => (atoms::error(), failure(env, why)).encode(env),
    })
}

/// Whether there is a keyring that is open.
#[rustler::nif]
fn auth_probe(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    request: Term<'_>,
) -> NifResult<Atom> {
    let request = decode(request)?;
    let work = async move {
        let probe = tokio::time::timeout(request.timeout, keyring::probe(&request.bus)).await;
        probe.unwrap_or(Err(Fault::Timeout))
    };
    answer(env, &pool, reference, work, |env, result| match result {
        Ok(()) => atoms::ok().encode(env),
        Err(why) => (atoms::error(), fault(env, Some(why))).encode(env),
    })
}

/// The document of a login with a key.
#[rustler::nif]
fn auth_api_key_login(key: &str) -> String {
    Login::with_api_key(key).compact()
}

/// What a document says; for a store that holds documents itself.
#[rustler::nif]
fn auth_login<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    match Login::parse(text.as_bytes()) {
        Ok(login) => (atoms::ok(), LoginTerm::new(login)).encode(env),
        Err(why) => (atoms::error(), why.0).encode(env),
    }
}

#[rustler::nif]
fn auth_claims<'a>(env: Env<'a>, token: &str) -> Term<'a> {
    match jwt::claims(token) {
        Ok(claims) => (atoms::ok(), ClaimsTerm::from(claims)).encode(env),
        Err(jwt::JwtError::Format) => (atoms::error(), atoms::format()).encode(env),
        Err(jwt::JwtError::Base64) => (atoms::error(), atoms::base64()).encode(env),
        Err(jwt::JwtError::Json) => (atoms::error(), atoms::json()).encode(env),
    }
}

/// The user name of a login in the keyring. Looks at the file system: a home may be a link.
#[rustler::nif]
fn auth_account(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    home: Binary,
) -> ResourceArc<CallResource> {
    let home = path(&home);
    let work = move || Slot::Login.account(&home);
    answer_blocking(env, &pool, reference, work, |env, account| (atoms::ok(), account).encode(env))
}

#[rustler::nif]
fn auth_mcp_account(server: &str, url: &str) -> String {
    mcp::account(server, url)
}

/// New tokens of a server, with the issuer and the unknown members of old ones.
#[rustler::nif]
fn auth_mcp_renew<'a>(env: Env<'a>, old: &str, new: &str) -> Term<'a> {
    match mcp::renewed(old, new) {
        Ok(text) => (atoms::ok(), text).encode(env),
        Err(why) => (atoms::error(), why.0).encode(env),
    }
}

#[rustler::nif]
fn auth_mcp_servers(
    env: Env<'_>,
    pool: ResourceArc<PoolResource>,
    reference: Term<'_>,
    home: Binary,
    timeout: u64,
) -> NifResult<Atom> {
    let home = path(&home);
    let work = auth::store::mcp_servers(home, Duration::from_millis(timeout));
    answer(env, &pool, reference, work, |env, result| match result {
        Ok(servers) => (atoms::ok(), servers).encode(env),
        Err(why) => (atoms::error(), failure(env, why)).encode(env),
    })
}

// --- Terms
// --------------------

/// `{Slot, Mode, Home, {Address, RuntimeDir}, Prompt, TimeoutMs}`.
type RequestTerm<'a> = (Term<'a>, Atom, Binary<'a>, (Option<String>, Option<String>), bool, u64);

fn decode(term: Term<'_>) -> NifResult<Request> {
    let (slot, mode, home, bus, prompt, timeout): RequestTerm = term.decode()?;
    let slot = match slot.decode::<(Atom, String, String)>() {
        Ok((tag, server, url)) if tag == atoms::mcp() => Slot::Mcp { server, url },
        Ok(_) => return Err(Error::BadArg),
        Err(_) if slot.decode::<Atom>()? == atoms::login() => Slot::Login,
        Err(_) => return Err(Error::BadArg),
    };
    let mode = match mode {
        mode if mode == atoms::file() => Mode::File,
        mode if mode == atoms::keyring() => Mode::Keyring,
        mode if mode == atoms::auto() => Mode::Auto,
        _ => return Err(Error::BadArg),
    };
    let bus = Bus { address: bus.0, runtime_dir: bus.1 };
    Ok(Request {
        slot,
        mode,
        home: path(&home),
        bus,
        prompt,
        timeout: Duration::from_millis(timeout),
    })
}

#[derive(NifMap)]
struct ClaimsTerm {
    email: Option<String>,
    plan: Option<String>,
    user_id: Option<String>,
    workspace_id: Option<String>,
    expires_at: Option<i64>,
}

impl From<jwt::Claims> for ClaimsTerm {
    fn from(claims: jwt::Claims) -> Self {
        let jwt::Claims { email, plan, user_id, workspace_id, expires_at } = claims;
        ClaimsTerm { email, plan, user_id, workspace_id, expires_at }
    }
}

#[derive(NifMap)]
struct LoginTerm {
    method: Atom,
    api_key: Option<String>,
    access_token: Option<String>,
    account_id: Option<String>,
    email: Option<String>,
    plan: Option<String>,
    user_id: Option<String>,
    workspace_id: Option<String>,
    expires_at: Option<i64>,
    renewable: bool,
    last_refresh: Option<String>,
    personal_access_token: Option<String>,
    agent_identity: Option<String>,
    document: String,
}

impl LoginTerm {
    fn new(login: Login) -> Self {
        let document = login.compact();
        let tokens = login.tokens;
        let id = tokens.as_ref().map(|tokens| tokens.id.clone()).unwrap_or_default();
        LoginTerm {
            method: match login.method {
                Method::ApiKey => atoms::api_key(),
                Method::Chatgpt => atoms::chatgpt(),
                Method::ChatgptAuthTokens => atoms::chatgpt_auth_tokens(),
                Method::AgentIdentity => atoms::agent_identity(),
                Method::PersonalAccessToken => atoms::personal_access_token(),
                Method::BedrockApiKey => atoms::bedrock_api_key(),
                Method::BedrockAccessKeys => atoms::bedrock_access_keys(),
            },
            api_key: login.api_key,
            account_id: tokens.as_ref().and_then(|tokens| tokens.account_id.clone()),
            email: id.email,
            plan: id.plan,
            user_id: id.user_id,
            workspace_id: id.workspace_id,
            expires_at: tokens.as_ref().and_then(|tokens| tokens.expires_at),
            renewable: tokens.as_ref().is_some_and(|tokens| !tokens.refresh_token.is_empty()),
            access_token: tokens.map(|tokens| tokens.access_token),
            last_refresh: login.last_refresh,
            personal_access_token: login.personal_access_token,
            agent_identity: login.agent_identity,
            document,
        }
    }
}

fn document<'e>(env: Env<'e>, login: bool, text: &str) -> Option<Term<'e>> {
    if login {
        Login::parse(text.as_bytes()).ok().map(|login| LoginTerm::new(login).encode(env))
    } else {
        // What is not known need not have a form in the VM.
        Some((mcp::known(text), text).encode(env))
    }
}

fn origin<'e>(env: Env<'e>, origin: &Origin) -> Term<'e> {
    match origin {
        Origin::File(path) => (atoms::file(), bytes(env, path)).encode(env),
        Origin::Keyring(account) => (atoms::keyring(), account).encode(env),
    }
}

/// A path need not be UTF-8.
fn bytes<'e>(env: Env<'e>, path: &Path) -> Term<'e> {
    use std::os::unix::ffi::OsStrExt;

    let path = path.as_os_str().as_bytes();
    let mut binary = rustler::NewBinary::new(env, path.len());
    binary.as_mut_slice().copy_from_slice(path);
    binary.into()
}

/// nil, or a kind and words for people.
fn fault(env: Env<'_>, fault: Option<Fault>) -> Term<'_> {
    let Some(fault) = fault else { return rustler::types::atom::nil().encode(env) };
    let kind = match &fault {
        Fault::Unavailable(_) => atoms::unavailable(),
        Fault::Locked => atoms::locked(),
        Fault::Timeout => atoms::timeout(),
        Fault::Ambiguous => atoms::ambiguous(),
        Fault::Content(_) => atoms::content(),
        Fault::Other(_) => atoms::other(),
    };
    (kind, fault.to_string()).encode(env)
}

fn failure(env: Env<'_>, failure: Failure) -> Term<'_> {
    match failure {
        Failure::Keyring(why) => (atoms::keyring(), fault(env, Some(why))).encode(env),
        Failure::Invalid { origin: place, message } => {
            (atoms::invalid(), origin(env, &place), message).encode(env)
        }
        Failure::Io { path, code, message } => {
            (atoms::io(), bytes(env, &path), code, message).encode(env)
        }
        Failure::Locked { path } => (atoms::held(), bytes(env, &path)).encode(env),
    }
}
