//! A bearer token that is fetched once for all callers, kept for most of its lifetime, and fetched again when refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use message::failure::Failure;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The lifetime of a token that does not name one: IBM's usual hour.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest lifetime that is believed, 24 h: a token that claims more is fetched again after that.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A token that was issued just now.
#[derive(Debug)]
pub(super) struct Token {
    value: SecretString,
    lifetime: Duration,
}

impl Token {
    /// Reads IAM's answer: `access_token`, `expires_in` in seconds.
    pub(super) fn of_iam(body: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Issued {
            access_token: String,
            expires_in: Option<u64>,
        }
        let issued: Issued = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let lifetime = issued.expires_in.map_or(USUAL_LIFETIME, Duration::from_secs);
        Ok(Self { value: issued.access_token.into(), lifetime })
    }

    /// Reads Cloud Pak's answer: `token`, a JWT that names its own times.
    pub(super) fn of_cloud_pak(body: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Issued {
            token: String,
        }
        let issued: Issued = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let lifetime = lifetime_of_jwt(&issued.token).unwrap_or(USUAL_LIFETIME);
        Ok(Self { value: issued.token.into(), lifetime })
    }
}

fn unreadable() -> Failure {
    Failure::transient("the token service's answer cannot be read")
}

fn lifetime_of_jwt(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        iat: u64,
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let Claims { iat, exp } = serde_json::from_slice(&claims).ok()?;
    exp.checked_sub(iat).filter(|s| *s > 0).map(Duration::from_secs)
}

/// The one token that all turns use.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    cached: Mutex<Option<Cached>>,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Cached {
    value: SecretString,
    refresh_at: Instant,
    ends_at: Instant,
}

impl TokenCache {
    /// The token, from `fetch` if there is none or it is old or it is `refused`. One caller fetches, the others wait. A
    /// token that is merely old still serves while the token service is unreachable.
    pub(super) async fn get(
        &self,
        refused: Option<&SecretString>,
        now: Instant,
        fetch: impl Future<Output = Result<Token, Failure>>,
    ) -> Result<SecretString, Failure> {
        let failures = self.failures.load(Ordering::Relaxed);
        let mut cached = self.cached.lock().await;
        // A failure counts for all callers that waited for it. Otherwise each would wait for a timeout of its own, one
        // after the other.
        let failed_meanwhile = self.failures.load(Ordering::Relaxed) > failures;
        let is_refused = |known: &Cached| refused.is_some_and(|r| r.expose_secret() == known.value.expose_secret());
        let usable = cached.take().filter(|known| !is_refused(known) && now < known.ends_at);
        let known = match usable {
            Some(known) if now < known.refresh_at || failed_meanwhile => known,
            None if failed_meanwhile => {
                return Err(Failure::transient("the token service failed a moment ago"));
            }
            old => match fetch.await {
                Ok(token) => Cached::new(token, now),
                Err(failure) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    old.ok_or(failure)?
                }
            },
        };
        Ok(cached.insert(known).value.clone())
    }
}

impl Cached {
    /// A token asked for at `now`, which is a little before it was issued; it is replaced after four fifths of its
    /// life.
    fn new(token: Token, now: Instant) -> Self {
        let lifetime = token.lifetime.min(LONGEST_LIFETIME);
        Self { value: token.value, refresh_at: now + lifetime.mul_f64(0.8), ends_at: now + lifetime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(cache: &TokenCache, refused: Option<&str>, now: Instant, next: Option<&str>) -> Option<String> {
        let fetch = async {
            let next = next.ok_or_else(|| Failure::transient("away"))?;
            Token::of_iam(format!(r#"{{"access_token":"{next}","expires_in":100}}"#).as_bytes())
        };
        let refused = refused.map(SecretString::from);
        cache.get(refused.as_ref(), now, fetch).await.ok().map(|token| token.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_token_is_kept_for_four_fifths_of_its_life() {
        let (cache, start) = (TokenCache::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(get(&cache, None, start, Some("a")).await.as_deref(), Some("a"));
        assert_eq!(get(&cache, None, after(79), Some("b")).await.as_deref(), Some("a"));
        assert_eq!(get(&cache, None, after(81), None).await.as_deref(), Some("a"), "old, but it still serves");
        assert_eq!(get(&cache, None, after(81), Some("b")).await.as_deref(), Some("b"));
        assert_eq!(get(&cache, None, after(182), None).await, None, "it has ended");
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_only_if_nobody_did_so_before() {
        let (cache, now) = (TokenCache::default(), Instant::now());
        get(&cache, None, now, Some("a")).await.unwrap();
        assert_eq!(get(&cache, Some("a"), now, Some("b")).await.as_deref(), Some("b"));
        assert_eq!(get(&cache, Some("a"), now, Some("c")).await.as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn those_who_waited_for_a_failed_fetch_do_not_fetch_themselves() {
        let (cache, now) = (TokenCache::default(), Instant::now());
        let failing = async {
            // The other caller is polled, and waits, before this one goes on.
            tokio::task::yield_now().await;
            Err(Failure::transient("away"))
        };
        let never = async { panic!("a second fetch") };
        let (first, second) = tokio::join!(cache.get(None, now, failing), cache.get(None, now, never));
        assert!(first.is_err() && second.is_err());
        assert_eq!(get(&cache, None, now, Some("a")).await.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn an_old_token_serves_those_who_waited_for_a_failed_fetch() {
        let (cache, start) = (TokenCache::default(), Instant::now());
        get(&cache, None, start, Some("a")).await.unwrap();
        let old = start + Duration::from_secs(81);
        let failing = async {
            tokio::task::yield_now().await;
            Err(Failure::transient("away"))
        };
        let never = async { panic!("a second fetch") };
        let (first, second) = tokio::join!(cache.get(None, old, failing), cache.get(None, old, never));
        assert_eq!([first, second].map(|token| token.unwrap().expose_secret().to_owned()), ["a", "a"]);
    }

    #[tokio::test]
    async fn a_token_that_claims_to_live_for_ever_is_no_panic() {
        let cache = TokenCache::default();
        let token = Token::of_iam(format!(r#"{{"access_token":"a","expires_in":{}}}"#, u64::MAX).as_bytes());
        let token = cache.get(None, Instant::now(), async { token }).await.unwrap();
        assert_eq!(token.expose_secret(), "a");
    }

    #[test]
    fn a_jwt_names_its_lifetime() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":1600}"#);
        assert_eq!(lifetime_of_jwt(&format!("h.{claims}.s")), Some(Duration::from_secs(600)));
        assert_eq!(lifetime_of_jwt("opaque"), None);
    }
}
