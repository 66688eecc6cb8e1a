//! `tessera.v1.BackupService`.

use std::{pin::Pin, sync::Arc};

use tessera_authority::{BackupPart, BackupStream};
use tessera_proto::v1::{CreateBackupRequest, CreateBackupResponse, backup_service_server::BackupService};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::convert::backup as convert;
use crate::{
    edge::{Caller, Edge, exchange},
    error::ApiError,
};

/// The service.
pub(crate) struct Backups(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl BackupService for Backups {
    type CreateBackupStream = Pin<Box<dyn Stream<Item = Result<CreateBackupResponse, Status>> + Send>>;

    async fn create_backup(
        &self,
        request: Request<CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let exchange = exchange(request.extensions())?;
        let begin = async |caller: Caller| {
            let backup = self.0.authority.backups().create_backup(&caller.principal)?;
            caller.changed("backup begun", "all realms");
            Ok((caller, backup))
        };
        // The stream bounds its output itself.
        let (caller, backup) = self.0.call(&exchange, begin, |_| 0).await?;
        Ok(Response::new(Box::pin(parts(caller, backup))))
    }
}

/// The parts, produced as the caller takes them.
fn parts(
    caller: Caller,
    mut backup: BackupStream,
) -> impl Stream<Item = Result<CreateBackupResponse, Status>> + Send {
    async_stream::try_stream! {
        while let Some(part) = backup.next().await {
            let part = part.map_err(ApiError::from)?;
            if let BackupPart::Made(made) = &part {
                caller.changed("backup made", &format!("sequence {}", made.tail.end.last.0));
            }
            yield convert::part(part);
        }
    }
}
