//! The command line. Others script against it: names and meanings stay.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

/// A self-hosted live-streaming server.
#[derive(Debug, Parser)]
#[command(
    name = "fanlight",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Without a command: serve, with the same options.
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server (the default).
    Serve(ServeArgs),
    /// Print a token that lets its bearer publish, chat, or run outputs in a room.
    Token(TokenArgs),
    /// Print the effective settings, secrets hidden.
    Config(ServeArgs),
    /// One output's worker process; started by the server.
    #[command(hide = true)]
    EgressWorker,
    /// The process that decodes pictures; started by the server.
    #[command(hide = true)]
    StillWorker,
}

/// Every option is also a setting of the config file and an environment variable: `FANLIGHT_` and the
/// setting's path joined by two underscores, such as `FANLIGHT_MEDIA__UDP_PORT`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Config file (TOML).
    #[arg(long, value_name = "FILE", env = "FANLIGHT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for everything that the server keeps: database, secrets, recordings [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the pages, the API and signaling [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// First UDP port for media, one for each processor core; 0 takes any free ones [default: 7000].
    #[arg(long, value_name = "PORT")]
    pub(crate) udp_port: Option<u16>,
    /// Address that browsers reach this machine by, as in a public cloud; may be repeated. Guessed otherwise.
    #[arg(long, value_name = "IP")]
    pub(crate) public_ip: Vec<IpAddr>,
    /// Certificate chain (PEM) to serve HTTPS.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "tls_self_signed"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve HTTPS with a certificate of our own making, to try the camera of a phone in the same network.
    #[arg(long)]
    pub(crate) tls_self_signed: bool,
    /// Bucket of an S3-compatible storage that recordings go to. Keys come from AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY, or from the file that egress.recording.s3.credentials_file names.
    #[arg(long, value_name = "NAME")]
    pub(crate) recording_s3_bucket: Option<String>,
    /// URL of that storage [default: Amazon's].
    #[arg(long, value_name = "URL", requires = "recording_s3_bucket")]
    pub(crate) recording_s3_endpoint: Option<String>,
    /// Its region [default: us-east-1].
    #[arg(long, value_name = "NAME", requires = "recording_s3_bucket")]
    pub(crate) recording_s3_region: Option<String>,
    /// What the names of files in the bucket start with.
    #[arg(long, value_name = "TEXT", requires = "recording_s3_bucket")]
    pub(crate) recording_s3_prefix: Option<String>,
    /// What to log, such as `info` or `sfu=debug,info`.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) server: TokenServerArgs,
    /// The room the token is for, created when there is none of that name; `*` for every room.
    #[arg(long)]
    pub(crate) room: String,
    /// May broadcast.
    #[arg(long)]
    pub(crate) publish: bool,
    /// May join the stage as a guest, beside whoever broadcasts.
    #[arg(long)]
    pub(crate) stage: bool,
    /// May write in chat.
    #[arg(long)]
    pub(crate) chat: bool,
    /// May start, see and end outputs.
    #[arg(long)]
    pub(crate) egress: bool,
    /// May do everything in the room.
    #[arg(long)]
    pub(crate) admin: bool,
    /// How long it is valid: a number and `s`, `m`, `h` or `d`.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    pub(crate) ttl: Duration,
    /// Whom it identifies; a new random identity otherwise.
    #[arg(long)]
    pub(crate) identity: Option<String>,
    /// The name shown in chat.
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// Which server's secret signs the token.
#[derive(Debug, Args)]
pub(crate) struct TokenServerArgs {
    /// Config file (TOML).
    #[arg(long, value_name = "FILE", env = "FANLIGHT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The server's data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Cli {
    /// The command, where no command means `serve` with the options given.
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 15m, 1h or 7d");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit_seconds) {
        Some(seconds) if seconds > 0 && seconds <= 10 * 365 * 86_400 => {
            Ok(Duration::from_secs(seconds))
        }
        _ => Err(format!("`{text}` is not between 1s and 3650d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_range() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "h",
            "1",
            "1w",
            "-1h",
            "0s",
            "99999999999999999999h",
            "3651d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_command_serves_with_the_options_given() {
        let cli = Cli::try_parse_from(["fanlight", "--udp-port", "7001"]).unwrap();
        assert!(matches!(cli.command(), Command::Serve(args) if args.udp_port == Some(7001)));
        let cli = Cli::try_parse_from(["fanlight", "serve", "--http", "127.0.0.1:0"]).unwrap();
        assert!(matches!(cli.command(), Command::Serve(args) if args.http.is_some()));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert!(Cli::try_parse_from(["fanlight", "--tls-cert", "a.pem"]).is_err());
    }
}
