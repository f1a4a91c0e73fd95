//! `fanlight token`: prints a token, and nothing else.

use std::io::Write;

use anyhow::Context;

use crate::{cli::TokenArgs, config::Config};

/// Mints a token with the secret of the server whose data folder is given.
///
/// # Errors
/// When the room's name is not valid, or the data folder cannot be used.
pub(crate) async fn print(args: TokenArgs) -> anyhow::Result<()> {
    let mut config = Config::read(args.server.config.as_deref())?;
    if let Some(data_dir) = args.server.data_dir {
        config.data_dir = data_dir;
    }
    let request = signaling::TokenRequest {
        room: args.room,
        identity: args.identity,
        name: args.name,
        grants: signaling::protocol::Grants {
            publish: args.publish,
            stage: args.stage,
            subscribe: true,
            chat: args.chat,
            egress: args.egress,
            admin: args.admin,
        },
        ttl: args.ttl,
    };
    let secret_file = config.data_dir.join("secret");
    if config.signaling.token_secret.is_none() && !secret_file.exists() {
        // The server may be started later; but a mistyped folder would go unnoticed.
        let note = format!(
            "fanlight: no server has run with the data folder {} yet: making a new secret there (the folder \
             is chosen with --data-dir)",
            config.data_dir.display()
        );
        let _ = writeln!(std::io::stderr(), "{note}");
    }
    let token = signaling::mint_token(&config.signaling, &config.data_dir, request)
        .await
        .context("make the token")?;
    writeln!(std::io::stdout(), "{token}").context("write to standard output")
}
