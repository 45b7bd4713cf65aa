//! Why a repository can't be read: dnf's library says that, not why.

use std::thread;
use std::time::Duration;

use super::super::fetch::{self, FetchError, Patience};
use super::super::{BaseContext, BaseError};
use super::RpmBase;
use super::repo_file::{Repo, Source};

/// How many URLs of one repository are looked at.
const LOOKED_AT: usize = 8;

/// What is wrong with the repository, in words: what its servers say, else what dnf's library said.
pub(super) fn cause(repo: &Repo, said: &str) -> String {
    let causes = match &repo.source {
        Source::Urls(urls) => {
            let index = |url: &String| (url.clone(), format!("{url}/repodata/repomd.xml"));
            ask(urls.iter().take(LOOKED_AT).map(index).collect(), repo.sslverify)
        }
        Source::MirrorList(url) | Source::Metalink(url) => {
            ask(vec![(url.clone(), url.clone())], repo.sslverify)
        }
    };
    match causes.as_slice() {
        [(_, Some(why))] => why.clone(),
        several if several.iter().any(|(_, why)| why.is_some()) => {
            let told = several.iter().filter_map(|(url, why)| Some(format!("\n{url}: {}", why.as_ref()?)));
            format!("{}{}", said.lines().next().unwrap_or_default(), told.collect::<String>())
        }
        _ => said.to_owned(),
    }
}

/// What is wrong with each of these, named by the first, if anything is. All at once: some may only time out.
fn ask(urls: Vec<(String, String)>, sslverify: bool) -> Vec<(String, Option<String>)> {
    let (connect, answer) = (Duration::from_secs(5), Duration::from_secs(10));
    let patience = Patience { connect, answer, ..Patience::default() };
    let look = move |url: String| {
        let agent = fetch::agent(sslverify, patience);
        match fetch::open(&url, &agent, 0) {
            Ok(_) => None,
            Err(FetchError::Lasting(why) | FetchError::Passing(why) | FetchError::Unreachable(why)) => {
                Some(why)
            }
        }
    };
    let asked = urls.into_iter().map(|(name, url)| (name, thread::spawn(move || look(url))));
    let asked: Vec<_> = asked.collect();
    asked.into_iter().map(|(name, thread)| (name, thread.join().unwrap_or(None))).collect()
}

/// An error where packages would have to be resolved and the network may not be used for it.
pub(super) fn resolvable<'a>(
    context: BaseContext<'_>,
    base: &RpmBase,
    repos: impl IntoIterator<Item = &'a Repo>,
) -> Result<(), BaseError> {
    let is_local = |repo: &Repo| match &repo.source {
        Source::Urls(urls) => urls.iter().all(|url| fetch::is_local(url)),
        // What is in the list may be anything.
        Source::MirrorList(_) | Source::Metalink(_) => false,
    };
    if !context.offline {
        return Ok(());
    }
    let Some(remote) = repos.into_iter().find(|repo| !is_local(repo)) else { return Ok(()) };
    let (why, hint) = match &base.lock {
        Some(lock) => (
            format!("the lock file `{}` isn't there", lock.display()),
            "run `rootbuild lock`, and provision once, without `--offline`".to_owned(),
        ),
        None => (
            "the base has no lock".to_owned(),
            "add `lock = \"bases/NAME.lock\"` to the base, and provision once without `--offline`: only a lock says \
             what to install without asking the repositories"
                .to_owned(),
        ),
    };
    Err(BaseError::Offline {
        message: format!(
            "offline, and {why}: its packages can't be resolved without the repository `{}` ({}), defined in {}",
            remote.id,
            remote.source.shown(),
            remote.place
        ),
        hint,
    })
}
