//! One route, one request: the JSON of `protocol::wire::control` in, the node's answer out.

use super::{Handle, Reply, Request, stream};
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request as HttpRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, DeviceAction, ErrorCode, FolderAction, REQUEST_LEN_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    handle: Handle,
    stop: CancellationToken,
}

/// A refusal on its way out.
struct Refusal(ControlError);

type Answer<T> = Result<Json<T>, Refusal>;

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status_of(self.0.code), Json(self.0)).into_response()
    }
}

const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Ambiguous | ErrorCode::Exists | ErrorCode::Refused => StatusCode::CONFLICT,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Io | ErrorCode::Internal | ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A JSON body whose refusal is a `ControlError` like any other.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, state: &Shared) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(Refusal(ControlError::bad_request(rejection.body_text()))),
        }
    }
}

pub(super) fn router(handle: Handle, stop: CancellationToken) -> Router {
    let v1 = Router::new()
        .route("/ping", get(ping))
        .route("/identity", get(identity).put(set_identity))
        .route("/status", get(status))
        .route("/stop", post(stop_daemon))
        .route("/config", get(config).put(config_set))
        .route("/wait", post(wait))
        .route("/versions", post(versions))
        .route("/restore", post(restore))
        .route("/log", post(log))
        .route("/ignore/test", post(ignore_test))
        .route("/events", get(events))
        .route("/events/stream", get(events_stream))
        .route("/pairing/show", post(pair_show))
        .route("/pairing/join", post(pair_join))
        .route("/pairing/answer", post(pair_answer))
        .merge(devices())
        .merge(folders());
    Router::new()
        .nest("/v1", v1)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(REQUEST_LEN_MAX))
        .with_state(Shared { handle, stop })
}

fn devices() -> Router<Shared> {
    let act = |action: fn() -> DeviceAction| {
        post(move |State(s): State<Shared>, Body(r): Body<api::DeviceRef>| async move {
            ask(&s, |reply| Request::Device { device: r.device, action: action(), reply }).await
        })
    };
    Router::new()
        .route("/devices", get(device_list))
        .route("/devices/rename", post(device_rename))
        .route("/devices/address", post(device_address))
        .route("/devices/limit", post(device_limit))
        .route("/devices/pause", act(|| DeviceAction::Pause))
        .route("/devices/resume", act(|| DeviceAction::Resume))
        .route("/devices/role", post(device_role))
        .route("/devices/remove", post(device_remove))
        .route("/net", get(net))
        .route("/realm", get(realm))
        .route("/realm/leave", post(leave_realm))
}

fn folders() -> Router<Shared> {
    let router = Router::new()
        .route("/folders", get(folder_list))
        .route("/folders/offers", get(offers))
        .route("/folders/add", post(folder_add))
        .route("/folders/join", post(folder_join))
        .route("/folders/preview", post(folder_preview))
        .route("/folders/share", post(folder_share))
        .route("/folders/set", post(folder_set));
    FolderAction::ALL.into_iter().fold(router, |router, action| {
        let handler = post(move |State(s): State<Shared>, Body(r): Body<api::FolderRef>| async move {
            ask(&s, |reply| Request::Folder { folder: r.folder, action, reply }).await
        });
        router.route(&format!("/folders/{}", action.word()), handler)
    })
}

async fn ask<T: Serialize>(shared: &Shared, make: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
    Ok(Json(shared.handle.ask(make).await?))
}

async fn no_route(uri: Uri) -> Refusal {
    Refusal(
        ControlError::not_found(format!("there is no route {}", uri.path()))
            .hint("syncctl and syncd may be of different versions"),
    )
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let error = ControlError::bad_request(format!("{method} is not possible on {}", uri.path()));
    (StatusCode::METHOD_NOT_ALLOWED, Json(error)).into_response()
}

async fn ping(State(s): State<Shared>) -> Answer<api::Ping> {
    ask(&s, |reply| Request::Ping { reply }).await
}

async fn identity(State(s): State<Shared>) -> Answer<api::Identity> {
    ask(&s, |reply| Request::Identity { name: None, reply }).await
}

async fn set_identity(State(s): State<Shared>, Body(r): Body<api::SetIdentity>) -> Answer<api::Identity> {
    ask(&s, |reply| Request::Identity { name: Some(r.name), reply }).await
}

async fn status(State(s): State<Shared>) -> Answer<api::Status> {
    ask(&s, |reply| Request::Status { reply }).await
}

async fn stop_daemon(State(s): State<Shared>) -> Answer<api::Done> {
    ask(&s, |reply| Request::Stop { reply }).await
}

async fn device_list(State(s): State<Shared>) -> Answer<api::Devices> {
    let status = s.handle.ask(|reply| Request::Status { reply }).await?;
    Ok(Json(api::Devices { devices: status.devices }))
}

async fn device_rename(State(s): State<Shared>, Body(r): Body<api::DeviceRename>) -> Answer<api::Done> {
    let action = DeviceAction::Rename(r.name);
    ask(&s, |reply| Request::Device { device: r.device, action, reply }).await
}

async fn net(State(s): State<Shared>) -> Answer<api::NetStatus> {
    ask(&s, |reply| Request::Net { reply }).await
}

async fn realm(State(s): State<Shared>) -> Answer<api::RealmStatus> {
    ask(&s, |reply| Request::Realm { reply }).await
}

async fn leave_realm(State(s): State<Shared>) -> Answer<api::Done> {
    ask(&s, |reply| Request::LeaveRealm { reply }).await
}

async fn device_remove(State(s): State<Shared>, Body(r): Body<api::DeviceRemove>) -> Answer<api::Done> {
    let action = DeviceAction::Remove { recovery_code: r.recovery_code, disown: r.disown };
    ask(&s, |reply| Request::Device { device: r.device, action, reply }).await
}

async fn device_role(State(s): State<Shared>, Body(r): Body<api::DeviceSetRole>) -> Answer<api::Done> {
    let action = DeviceAction::Role { role: r.role, recovery_code: r.recovery_code };
    ask(&s, |reply| Request::Device { device: r.device, action, reply }).await
}

async fn device_limit(State(s): State<Shared>, Body(r): Body<api::DeviceLimit>) -> Answer<api::Done> {
    ask(&s, |reply| Request::Device { device: r.device.clone(), action: DeviceAction::Limit(r), reply }).await
}

async fn device_address(State(s): State<Shared>, Body(r): Body<api::DeviceAddress>) -> Answer<api::Done> {
    let action = DeviceAction::Address(r.addresses);
    ask(&s, |reply| Request::Device { device: r.device, action, reply }).await
}

async fn folder_list(State(s): State<Shared>) -> Answer<api::Folders> {
    let status = s.handle.ask(|reply| Request::Status { reply }).await?;
    Ok(Json(api::Folders { folders: status.folders }))
}

async fn offers(State(s): State<Shared>) -> Answer<api::Offers> {
    ask(&s, |reply| Request::Offers { reply }).await
}

async fn folder_add(State(s): State<Shared>, Body(add): Body<api::FolderAdd>) -> Answer<api::FolderStatus> {
    ask(&s, |reply| Request::FolderAdd { add, reply }).await
}

async fn folder_join(State(s): State<Shared>, Body(join): Body<api::FolderJoin>) -> Answer<api::FolderStatus> {
    ask(&s, |reply| Request::FolderJoin { join, reply }).await
}

async fn folder_preview(State(s): State<Shared>, Body(join): Body<api::FolderJoin>) -> Answer<api::JoinPreview> {
    ask(&s, |reply| Request::FolderPreview { join, reply }).await
}

async fn folder_share(State(s): State<Shared>, Body(share): Body<api::FolderShare>) -> Answer<api::Done> {
    ask(&s, |reply| Request::FolderShare { share, reply }).await
}

async fn folder_set(State(s): State<Shared>, Body(set): Body<api::FolderSet>) -> Answer<api::Setting> {
    ask(&s, |reply| Request::FolderSet { set, reply }).await
}

async fn pair_show(State(s): State<Shared>, Body(show): Body<api::PairShow>) -> Result<Response, Refusal> {
    let source = s.handle.ask(|reply| Request::PairShow { show, reply }).await?;
    Ok(stream::pairing(source, s.stop))
}

async fn pair_join(State(s): State<Shared>, Body(join): Body<api::PairJoin>) -> Result<Response, Refusal> {
    let source = s.handle.ask(|reply| Request::PairJoin { join, reply }).await?;
    Ok(stream::pairing(source, s.stop))
}

async fn pair_answer(State(s): State<Shared>, Body(answer): Body<api::PairAnswer>) -> Answer<api::Done> {
    ask(&s, |reply| Request::PairAnswer { answer, reply }).await
}

async fn wait(State(s): State<Shared>, Body(wait): Body<api::Wait>) -> Answer<api::Waited> {
    ask(&s, |reply| Request::Wait { wait, reply }).await
}

async fn versions(State(s): State<Shared>, Body(file): Body<api::FileRef>) -> Answer<api::Versions> {
    ask(&s, |reply| Request::Versions { file, reply }).await
}

async fn restore(State(s): State<Shared>, Body(restore): Body<api::Restore>) -> Answer<api::Restored> {
    ask(&s, |reply| Request::Restore { restore, reply }).await
}

async fn log(State(s): State<Shared>, Body(query): Body<api::LogQuery>) -> Answer<api::Log> {
    ask(&s, |reply| Request::Log { query, reply }).await
}

async fn ignore_test(State(s): State<Shared>, Body(file): Body<api::FileRef>) -> Answer<api::IgnoreVerdict> {
    ask(&s, |reply| Request::IgnoreTest { file, reply }).await
}

async fn config(State(s): State<Shared>) -> Answer<api::Config> {
    ask(&s, |reply| Request::ConfigGet { reply }).await
}

async fn config_set(State(s): State<Shared>, Body(set): Body<api::ConfigSet>) -> Answer<api::Setting> {
    ask(&s, |reply| Request::ConfigSet { set, reply }).await
}

#[derive(serde::Deserialize)]
struct Since {
    since: Option<u64>,
}

type SinceQuery = Result<Query<Since>, axum::extract::rejection::QueryRejection>;

fn since_of(query: SinceQuery, headers: &HeaderMap) -> Result<u64, Refusal> {
    let Query(query) = query.map_err(|why| ControlError::bad_request(why.body_text()))?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(last.or(query.since).unwrap_or(0))
}

async fn events(State(s): State<Shared>, query: SinceQuery, headers: HeaderMap) -> Answer<api::Events> {
    Ok(Json(api::Events { events: s.handle.events().recent(since_of(query, &headers)?) }))
}

async fn events_stream(State(s): State<Shared>, query: SinceQuery, headers: HeaderMap) -> Result<Response, Refusal> {
    let (remembered, source) = s.handle.events().subscribe(since_of(query, &headers)?);
    Ok(stream::events(remembered, source, s.stop))
}
