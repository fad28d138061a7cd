//! Credentials: any bytes, and other writers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use codex_core::auth::keyring::{Bus, Fault};
use codex_core::auth::login::Login;
use codex_core::auth::store::{delete, load, save};
use codex_core::auth::{Failure, Mode, Origin, Request, Slot, jwt};
use proptest::prelude::*;

fn request(home: &std::path::Path, mode: Mode, slot: Slot) -> Request {
    Request {
        slot,
        mode,
        home: home.to_path_buf(),
        bus: Bus::default(),
        prompt: false,
        timeout: Duration::from_millis(300),
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn tokens(url: &str) -> String {
    format!(
        r#"{{"server_name":"s","server_url":"{url}","client_id":"c","access_token":"a","scopes":["x"]}}"#
    )
}

proptest! {
    #[test]
    fn any_bytes_are_a_login_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Login::parse(&bytes);
        let _ = jwt::claims(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_object_is_a_login_or_an_error_without_its_values(
        name in prop_oneof!["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh", "[a-z_]{1,12}"],
        value in prop_oneof!["\"marked[a-z0-9.-]{0,20}\"", "[0-9]{1,5}", "null", "true", "\\[1\\]", "\\{\"id_token\":\"marked\"\\}"],
    ) {
        let text = format!("{{\"{name}\":{value}}}");
        match Login::parse(text.as_bytes()) {
            // What is written can be read again, and says the same.
            Ok(login) => {
                let again = Login::parse(login.pretty().as_bytes()).unwrap();
                prop_assert!(again == login);
                prop_assert_eq!(again.compact(), login.compact());
            }
            Err(why) => prop_assert!(!why.to_string().contains("marked"), "{}", why),
        }
    }

    #[test]
    fn keys_with_any_characters_survive(key in "\\PC{1,60}") {
        let login = Login::parse(Login::with_api_key(&key).compact().as_bytes()).unwrap();
        prop_assert_eq!(login.api_key.as_deref(), Some(key.as_str()));
    }
}

#[test]
fn without_a_bus_auto_is_the_file_and_keyring_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let login = Login::with_api_key("sk-1").compact();
    let unavailable = |fault: &Fault| matches!(fault, Fault::Unavailable(_));

    let saved = wait(save(request(home.path(), Mode::Auto, Slot::Login), login.clone())).unwrap();
    assert_eq!(saved.origin, Origin::File(home.path().join("auth.json")));
    assert!(unavailable(&saved.instead.unwrap()));
    let loaded = wait(load(request(home.path(), Mode::Auto, Slot::Login))).unwrap().ok().unwrap();
    assert!(unavailable(&loaded.instead.unwrap()));

    let failure = wait(load(request(home.path(), Mode::Keyring, Slot::Login))).err().unwrap();
    assert!(matches!(failure, Failure::Keyring(Fault::Unavailable(_))));
    let removed = wait(delete(request(home.path(), Mode::Auto, Slot::Login))).unwrap();
    assert!(removed.file && !removed.keyring && removed.unchecked.is_some());
    assert!(wait(load(request(home.path(), Mode::File, Slot::Login))).unwrap().is_err());
}

#[test]
fn tokens_of_several_servers_stand_in_one_file() {
    let home = tempfile::tempdir().unwrap();
    let slot = |url: &str| Slot::Mcp { server: "s".to_owned(), url: url.to_owned() };
    for url in ["http://a", "http://b"] {
        wait(save(request(home.path(), Mode::File, slot(url)), tokens(url))).unwrap();
    }
    let found =
        wait(load(request(home.path(), Mode::File, slot("http://a")))).unwrap().ok().unwrap();
    assert!(found.text.contains("http://a"));
    assert!(wait(delete(request(home.path(), Mode::File, slot("http://a")))).unwrap().file);
    assert!(wait(load(request(home.path(), Mode::File, slot("http://a")))).unwrap().is_err());
    assert!(wait(delete(request(home.path(), Mode::File, slot("http://b")))).unwrap().file);
    // The CLI removes a file that holds nothing.
    assert!(!home.path().join(".credentials.json").exists());
}

#[test]
fn many_writers_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let home = home.path().to_path_buf();
            std::thread::spawn(move || {
                let url = format!("http://{n}");
                let slot = Slot::Mcp { server: "s".to_owned(), url: url.clone() };
                let request = Request {
                    timeout: Duration::from_secs(20),
                    ..request(&home, Mode::File, slot)
                };
                wait(save(request, tokens(&url))).unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(codex_core::auth::file::mcp_servers(home.path()).unwrap().len(), 8);
}
