//! OAuth 2: access tokens that are fetched, refreshed once for everybody, and whose refresh tokens rotate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::auth::{Authenticator, Generation, set_header};
use super::client::check_url;
use super::token_endpoint::TokenEndpoint;
use super::{Request, TokenStore};
use crate::connector::BuildContext;
use crate::error::{Error, ErrorKind, Result};

/// Life of a token whose answer does not say how long it lives.
const UNKNOWN_LIFE: Duration = Duration::from_mins(30);
/// Longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);
/// Part of its life after which a token is replaced.
const FRESH: f64 = 0.75;
/// Pause after a failed replacement of a token that is still good.
const TRY_AGAIN: Duration = Duration::from_secs(30);
type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Authenticates with OAuth 2 access tokens: client credentials, or a refresh token that may rotate.
///
/// A token is replaced after three quarters of its life, or when the vendor refuses it, by one request however many tasks
/// wait for it. A new refresh token is stored before the access token that came with it is used.
pub struct OAuth2 {
    client: Client,
    /// The refresh token from the configuration; none: client credentials.
    configured: Option<SecretString>,
    scopes: Vec<String>,
    endpoint: TokenEndpoint,
    life: Duration,
    tokens: Arc<dyn TokenStore>,
    /// The stored token's name. It depends on the configured token, so that a newly configured one is not passed over for
    /// an older one in the store.
    key: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    access: Option<Access>,
    generation: Generation,
    /// A refresh token that could not be stored yet.
    unsaved: Option<SecretString>,
}

struct Access {
    token: SecretString,
    /// When to replace it.
    stale: Instant,
    /// When it ends.
    expires: Instant,
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2").field("token_url", &self.client.token_uri().url().as_str()).finish_non_exhaustive()
    }
}

impl OAuth2 {
    /// Gets tokens for the client itself.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the URL is not https, or there is no transport.
    pub fn client_credentials(context: &BuildContext, token_url: &Url, client_id: &str, client_secret: &SecretString) -> Result<Self> {
        Self::new(context, token_url, client_id, Some(client_secret), None)
    }

    /// Gets tokens with a refresh token. The one in the token store, if any, is newer than the configured one.
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
        Self::new(context, token_url, client_id, client_secret, Some(refresh_token))
    }

    fn new(
        context: &BuildContext,
        token_url: &Url,
        client_id: &str,
        client_secret: Option<&SecretString>,
        configured: Option<SecretString>,
    ) -> Result<Self> {
        check_url(token_url)?;
        let mut client = BasicClient::new(ClientId::new(client_id.to_owned())).set_auth_type(AuthType::RequestBody);
        if let Some(secret) = client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        let identity = [token_url.as_str(), client_id, configured.as_ref().map_or("", |token| token.expose_secret())].join("\n");
        Ok(Self {
            client: client.set_token_uri(TokenUrl::from_url(token_url.clone())),
            configured,
            scopes: Vec::new(),
            endpoint: TokenEndpoint::new(context, token_url)?,
            life: UNKNOWN_LIFE,
            tokens: Arc::clone(&context.tokens),
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

    /// Sends a JSON object to the token endpoint, where the standard says a form. Further parameters that are whole numbers
    /// are sent as numbers.
    pub fn json_body(mut self) -> Self {
        self.endpoint.json = true;
        self
    }

    /// How long a token lives whose answer does not say. Default 30 min.
    pub fn default_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Replaces the access token. The caller holds the state, so there is one replacement at a time.
    async fn replace(&self, state: &mut State) -> Result<()> {
        let refresh = self.current_refresh_token(state).await?;
        let answer = self.request(refresh).await?;
        let rotated = answer.refresh_token().filter(|_| self.configured.is_some());
        if let Some(rotated) = rotated {
            state.unsaved = Some(rotated.secret().clone().into());
            self.save(state).await?;
        }
        let life = answer.expires_in().filter(|life| !life.is_zero()).unwrap_or(self.life).min(LONGEST_LIFE);
        let now = Instant::now();
        let token = answer.access_token().secret().clone().into();
        state.access = Some(Access { token, stale: now + life.mul_f64(FRESH), expires: now + life });
        state.generation += 1;
        Ok(())
    }

    /// The store is asked every time: another process may have rotated the token.
    async fn current_refresh_token(&self, state: &mut State) -> Result<Option<SecretString>> {
        let Some(configured) = &self.configured else { return Ok(None) };
        self.save(state).await?;
        Ok(Some(self.tokens.load(&self.key).await?.unwrap_or_else(|| configured.clone())))
    }

    async fn save(&self, state: &mut State) -> Result<()> {
        if let Some(token) = &state.unsaved {
            self.tokens.save(&self.key, token).await?;
            state.unsaved = None;
        }
        Ok(())
    }

    async fn request(&self, refresh: Option<SecretString>) -> Result<BasicTokenResponse> {
        let scopes = self.scopes.iter().cloned().map(Scope::new);
        let answer = if let Some(token) = refresh {
            let token = RefreshToken::new(token.expose_secret().to_owned());
            let mut request = self.client.exchange_refresh_token(&token).add_scopes(scopes);
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
            "re-authorise this source and configure the new refresh token; no two deployments can share one",
        ),
        BasicErrorResponseType::InvalidScope => {
            (ErrorKind::ConfigInvalid, "the token endpoint refuses the scope", "ask only for scopes that the client was given")
        }
        _ => (ErrorKind::Unauthenticated, "the token endpoint refuses the client", "check the client's id and secret, and what it may do"),
    };
    let code = match code {
        BasicErrorResponseType::Extension(_) => "other",
        standard => standard.as_ref(),
    };
    Error::new(kind, message).with_help(help).with_context("oauth_error", code)
}

#[async_trait]
impl Authenticator for OAuth2 {
    async fn authenticate(&self, request: &mut Request) -> Result<Generation> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if state.access.as_ref().is_none_or(|access| access.stale <= now)
            && let Err(error) = self.replace(&mut state).await
        {
            match &mut state.access {
                // The old one is still good: try later.
                Some(access) if error.is_temporary() && Instant::now() < access.expires => access.stale = Instant::now() + TRY_AGAIN,
                _ => return Err(error.with_operation("getting an access token")),
            }
        }
        if let Some(access) = &state.access {
            set_header(request, AUTHORIZATION, &format!("Bearer {}", access.token.expose_secret()))?;
        }
        Ok(state.generation)
    }

    async fn refresh(&self, refused: Generation) -> Result<bool> {
        let mut state = self.state.lock().await;
        if state.generation <= refused {
            state.access = None;
            self.replace(&mut state).await.map_err(|error| error.with_operation("getting an access token"))?;
        }
        Ok(true)
    }
}
