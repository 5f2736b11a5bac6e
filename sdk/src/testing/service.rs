//! The gRPC side of the fake server.

use std::io;
use std::sync::Arc;

use onair_proto::v1;
use onair_proto::v1::on_air_server::{OnAir, OnAirServer};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::Shared;

pub(crate) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Service { shared }
    }
}

pub(crate) async fn serve(service: Service, incoming: mpsc::Receiver<io::Result<DuplexStream>>) {
    let incoming = ReceiverStream::new(incoming);
    // Pipes do not fail to be accepted.
    let _ = Server::builder()
        .serve_with_incoming(OnAirServer::new(service), incoming)
        .await;
}

pub(crate) async fn serve_port(service: Service, listener: TcpListener) {
    let incoming = TcpListenerStream::new(listener);
    // A port that cannot accept shows as a server that cannot be reached.
    let _ = Server::builder()
        .serve_with_incoming(OnAirServer::new(service), incoming)
        .await;
}

#[tonic::async_trait]
impl OnAir for Service {
    type SubscribeStream = BoxStream<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let stream = self.shared.server().subscribe(request.into_inner())?;
        self.shared.subscribed.notify_waiters();
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    async fn schema(
        &self,
        _: Request<v1::SchemaRequest>,
    ) -> Result<Response<v1::SchemaResponse>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    type PastStream = BoxStream<v1::SubscribeResponse>;

    async fn past(
        &self,
        _: Request<v1::PastRequest>,
    ) -> Result<Response<Self::PastStream>, Status> {
        Err(Status::unimplemented("the fake server has no past"))
    }

    type KeyHistoryStream = BoxStream<v1::KeyStep>;

    async fn key_history(
        &self,
        _: Request<v1::KeyHistoryRequest>,
    ) -> Result<Response<Self::KeyHistoryStream>, Status> {
        Err(Status::unimplemented("the fake server has no past"))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    async fn reconcile(
        &self,
        _: Request<v1::ReconcileRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    async fn runs(
        &self,
        _: Request<v1::RunsRequest>,
    ) -> Result<Response<v1::RunsResponse>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }

    async fn move_run(&self, _: Request<v1::MoveRunRequest>) -> Result<Response<v1::Run>, Status> {
        Err(Status::unimplemented("the fake server only streams"))
    }
}
