//! OAuth 2: access tokens that are fetched, refreshed once for all requests, and whose refresh
//! tokens rotate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, RefreshToken, RequestTokenError,
    Scope, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, ErrorStatus, Result};
use crate::http::auth::token_endpoint::TokenEndpoint;
use crate::http::auth::token_pair::{AccessToken, Pair, jwt_life};
use crate::http::auth::{Authenticator, CredentialGeneration, set_header};
use crate::http::client::check_url;
use crate::http::{BuildContext, TokenStore};
use crate::message::Request;

/// Life of a token whose answer does not say how long it lives.
const UNKNOWN_LIFE: Duration = Duration::from_mins(30);
/// Longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);
/// Part of its life after which a token is replaced.
const FRESH: f64 = 0.75;
/// Pause after a failed replacement of a token that is still good.
const TRY_AGAIN: Duration = Duration::from_secs(30);
type Client =
    BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Authenticates with OAuth 2 access tokens: client credentials, or a refresh token that may
/// rotate.
///
/// A token is replaced after three quarters of its life, or when the vendor refuses it, by one
/// request however many tasks wait for it.
///
/// With a refresh token both tokens are kept in the [`TokenStore`]: a pair is stored before it is
/// used, and a process that begins uses the stored access token as long as it is good. That makes
/// refreshes rare, and with them the moment that no client can make safe: between the vendor's
/// answer, which kills the old pair, and the end of writing the new one.
///
/// ```
/// use pipeline_core::BuildContext;
/// use pipeline_core::http::{HttpClient, OAuth2};
///
/// let context = BuildContext::new("shop");
/// let token_url = "https://api.acme.example/oauth/token".parse()?;
/// let auth = OAuth2::client_credentials(&context, &token_url, "pipeline", &"secret".into())?.scope("read");
/// let client = HttpClient::builder(&context, "https://api.acme.example".parse()?).authenticator(auth).build()?;
/// assert_eq!(client.base().host_str(), Some("api.acme.example"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OAuth2 {
    client: Client,
    client_secret: Option<SecretString>,
    /// The refresh token from the configuration; none: client credentials.
    configured: Option<SecretString>,
    scopes: Vec<String>,
    endpoint: TokenEndpoint,
    life: Duration,
    tokens: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    /// The stored pair's name. It depends on the configured token, so that a newly configured one
    /// is not passed over for an older one in the store.
    key: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    access: Option<AccessToken>,
    generation: CredentialGeneration,
    /// The pair that could not be stored yet.
    unsaved: Option<Pair>,
    /// The refresh token that is in the store.
    refresh: Option<SecretString>,
}

impl State {
    fn accept(&mut self, access: AccessToken) {
        self.access = Some(access);
        self.generation += 1;
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2")
            .field("token_url", &self.client.token_uri().url().as_str())
            .finish_non_exhaustive()
    }
}

impl OAuth2 {
    /// Gets tokens for the client itself.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the URL is not https, or no transport is set.
    pub fn client_credentials(
        context: &BuildContext,
        token_url: &Url,
        client_id: &str,
        client_secret: &SecretString,
    ) -> Result<Self> {
        Self::new(context, token_url, client_id, Some(client_secret), None)
    }

    /// Gets tokens with a refresh token. The one in the token store, if any, is newer than the
    /// configured one.
    ///
    /// # Errors
    /// As [`client_credentials`](Self::client_credentials).
    pub fn refresh_token(
        context: &BuildContext,
        token_url: &Url,
        client_id: &str,
        client_secret: Option<&SecretString>,
        refresh_token: SecretString,
    ) -> Result<Self> {
        Self::new(
            context,
            token_url,
            client_id,
            client_secret,
            Some(refresh_token),
        )
    }

    fn new(
        context: &BuildContext,
        token_url: &Url,
        client_id: &str,
        client_secret: Option<&SecretString>,
        configured: Option<SecretString>,
    ) -> Result<Self> {
        check_url(token_url)?;
        let mut client = BasicClient::new(ClientId::new(client_id.to_owned()))
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        let identity = [
            token_url.as_str(),
            client_id,
            configured
                .as_ref()
                .map_or("", |token| token.expose_secret()),
        ]
        .join("\n");
        Ok(Self {
            client: client.set_token_uri(TokenUrl::from_url(token_url.clone())),
            client_secret: client_secret.cloned(),
            configured,
            scopes: Vec::new(),
            endpoint: TokenEndpoint::new(context, token_url)?,
            life: UNKNOWN_LIFE,
            tokens: Arc::clone(&context.tokens),
            clock: Arc::clone(&context.clock),
            key: format!("oauth-{}", blake3::hash(identity.as_bytes()).to_hex()),
            state: Mutex::default(),
        })
    }

    /// Asks for a scope.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Sends a further parameter to the token endpoint, such as `expires_in` or `audience`.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.endpoint.params.push((name.into(), value.into()));
        self
    }

    /// Sends the client's id and secret as basic authentication instead of in the body.
    pub fn basic_auth(mut self) -> Self {
        self.client = self.client.set_auth_type(AuthType::BasicAuth);
        self
    }

    /// Sends a JSON object to the token endpoint, where the standard says a form. Further
    /// parameters that are whole numbers are sent as numbers.
    pub fn json_body(mut self) -> Self {
        self.endpoint.json = true;
        self
    }

    /// How long a token lives whose answer does not say. Default 30 min.
    pub fn default_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Gets another access token than the one there was. The caller holds the state, so there is
    /// one replacement at a time.
    async fn replace(&self, state: &mut State, refused: Option<SecretString>) -> Result<()> {
        let Some(configured) = &self.configured else {
            let answer = self.request(None).await?;
            state.accept(self.access(&answer));
            return Ok(());
        };
        // Other processes with the same store wait here, and then find what this one got.
        let _lock = self.tokens.lock(&self.key).await?;
        if self.save_unsaved(state).await? {
            return Ok(());
        }
        let stored = self
            .tokens
            .load(&self.key)
            .await?
            .map(|text| Pair::read(&text))
            .transpose()?;
        let current = stored.unwrap_or_else(|| Pair {
            refresh: configured.clone(),
            access: None,
        });
        state.refresh = Some(current.refresh.clone());
        if let Some(newer) = current
            .access
            .as_ref()
            .filter(|access| access.is_newer_than(refused.as_ref(), self.clock.now()))
        {
            state.accept(newer.clone());
            return Ok(());
        }
        // The answer kills the token it was got with, so it is asked for only once it is sure that
        // it can be kept.
        self.tokens.save(&self.key, &current.text()).await?;
        let answer = self.request(Some(current.refresh.clone())).await?;
        let rotated = answer
            .refresh_token()
            .map_or(current.refresh, |token| token.secret().clone().into());
        state.unsaved = Some(Pair {
            refresh: rotated,
            access: Some(self.access(&answer)),
        });
        self.save_unsaved(state).await?;
        Ok(())
    }

    /// Stores the pair that was got last, and only then uses it. False when there is none.
    async fn save_unsaved(&self, state: &mut State) -> Result<bool> {
        let Some(pair) = &state.unsaved else {
            return Ok(false);
        };
        self.tokens.save(&self.key, &pair.text()).await?;
        if let Some(Pair { access, refresh }) = state.unsaved.take() {
            state.refresh = Some(refresh);
            if let Some(access) = access {
                state.accept(access);
            }
        }
        Ok(true)
    }

    /// The answer's access token and when it ends, which the answer says, or the token itself, or
    /// nobody.
    fn access(&self, answer: &BasicTokenResponse) -> AccessToken {
        let now = self.clock.now();
        let token = answer.access_token().secret();
        let told = answer.expires_in().filter(|life| !life.is_zero());
        let life = told
            .or_else(|| jwt_life(token, now))
            .unwrap_or(self.life)
            .min(LONGEST_LIFE);
        AccessToken {
            token: token.clone().into(),
            stale: now + life.mul_f64(FRESH),
            expires: now + life,
        }
    }

    async fn request(&self, refresh: Option<SecretString>) -> Result<BasicTokenResponse> {
        let scopes = self.scopes.iter().cloned().map(Scope::new);
        let answer = if let Some(token) = refresh {
            let token = RefreshToken::new(token.expose_secret().to_owned());
            let mut request = self
                .client
                .exchange_refresh_token(&token)
                .add_scopes(scopes);
            for (name, value) in &self.endpoint.params {
                request = request.add_extra_param(name, value);
            }
            request.request_async(&self.endpoint).await
        } else {
            let mut request = self.client.exchange_client_credentials().add_scopes(scopes);
            for (name, value) in &self.endpoint.params {
                request = request.add_extra_param(name, value);
            }
            request.request_async(&self.endpoint).await
        };
        answer.map_err(|error| match error {
            RequestTokenError::Request(error) => error,
            RequestTokenError::ServerResponse(answer) => refused(answer.error()),
            // The cause may quote the answer, which holds tokens.
            _ => Error::new(ErrorKind::Decode, "the token endpoint sent no token"),
        })
    }
}

fn refused(code: &BasicErrorResponseType) -> Error {
    let (kind, message, help) = match code {
        BasicErrorResponseType::InvalidGrant => (
            ErrorKind::Unauthenticated,
            "the refresh token is expired, revoked or already used",
            "re-authorise this source and configure the new refresh token; no two deployments can \
             share one. A process that dies after the vendor's answer and before it is stored \
             loses the token; client credentials, where the vendor has them, cannot be lost",
        ),
        BasicErrorResponseType::InvalidScope => (
            ErrorKind::ConfigInvalid,
            "the token endpoint refuses the scope",
            "ask only for scopes that the client was given",
        ),
        _ => (
            ErrorKind::Unauthenticated,
            "the token endpoint refuses the client",
            "check the client's id and secret, and what it may do",
        ),
    };
    let code = match code {
        BasicErrorResponseType::Extension(_) => "other",
        standard => standard.as_ref(),
    };
    Error::new(kind, message)
        .with_help(help)
        .with_context("oauth_error", code)
}

#[async_trait]
impl Authenticator for OAuth2 {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let held = state.access.as_ref().map(|access| access.token.clone());
        if state
            .access
            .as_ref()
            .is_none_or(|access| access.stale <= now)
            && let Err(error) = self.replace(&mut state, held).await
        {
            match &mut state.access {
                // The old one is still good: try later.
                Some(access)
                    if error.status() != ErrorStatus::Permanent
                        && self.clock.now() < access.expires =>
                {
                    access.stale = self.clock.now() + TRY_AGAIN;
                }
                _ => return Err(error.with_operation("getting an access token")),
            }
        }
        if let Some(access) = &state.access {
            set_header(
                request,
                AUTHORIZATION,
                &format!("Bearer {}", access.token.expose_secret()),
            )?;
        }
        Ok(state.generation)
    }

    async fn refresh(&self, refused: CredentialGeneration) -> Result<bool> {
        let mut state = self.state.lock().await;
        if state.generation <= refused {
            let refused = state.access.take().map(|access| access.token);
            self.replace(&mut state, refused)
                .await
                .map_err(|error| error.with_operation("getting an access token"))?;
        }
        Ok(true)
    }

    async fn secrets(&self) -> Vec<SecretString> {
        let state = self.state.lock().await;
        let access = state.access.as_ref().map(|access| access.token.clone());
        [
            self.client_secret.clone(),
            self.configured.clone(),
            state.refresh.clone(),
            access,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
