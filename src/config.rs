//! One [`Config`] made of every crate's own. Defaults, file, environment and flags, in that order; unknown
//! keys are errors; nothing is opened before everything is valid.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Toml},
};
use serde::{Deserialize, Serialize};

use crate::cli::ServeArgs;

/// All settings of the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Folder for the database, the token secret and certificates.
    pub(crate) data_dir: PathBuf,
    pub(crate) http: Http,
    pub(crate) log: Log,
    pub(crate) media: sfu::Config,
    pub(crate) signaling: signaling::Config,
    pub(crate) egress: egress::Config,
}

/// Where the pages, the API and signaling are served.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Address and port.
    pub(crate) listen: SocketAddr,
    /// Certificate chain (PEM) to serve HTTPS; with `tls_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve HTTPS with a certificate of the server's own making.
    pub(crate) tls_self_signed: bool,
    /// Whether `/metrics` is shown to everyone. Otherwise to this machine only, or with an admin token.
    pub(crate) public_metrics: bool,
    /// Seconds that requests and sessions get to finish when the server stops, 0 to 300.
    pub(crate) drain_seconds: u64,
}

/// What is logged, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Such as `info` or `sfu=debug,info`.
    pub(crate) filter: String,
    /// One JSON object a line instead of text.
    pub(crate) json: bool,
}

/// How HTTP is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    SelfSigned,
    Files { cert: PathBuf, key: PathBuf },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            http: Http::default(),
            log: Log::default(),
            media: sfu::Config::default(),
            signaling: signaling::Config::default(),
            egress: egress::Config::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            tls_cert: None,
            tls_key: None,
            tls_self_signed: false,
            public_metrics: false,
            drain_seconds: 10,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,rtc_dtls=error".into(),
            json: false,
        }
    }
}

/// Says what is wrong with settings, by the names that whoever has written them knows.
fn explain(error: figment::Error) -> anyhow::Error {
    let lines = error.into_iter().map(|error| {
        let source = error.metadata.as_ref();
        let file = source.and_then(|metadata| metadata.source.as_ref()?.file_path());
        let (key, place) = match file {
            Some(file) if error.path.is_empty() => (file.display().to_string(), String::new()),
            Some(file) => (error.path.join("."), format!(" in {}", file.display())),
            None => {
                let key = error.path.join("__").to_uppercase();
                (format!("FANLIGHT_{key}"), String::new())
            }
        };
        if let Kind::UnknownField(_, known) = &error.kind {
            let known = known.join(", ");
            format!("{key}{place} is no setting; there are {known}")
        } else {
            format!("{key}{place}: {}", error.kind)
        }
    });
    anyhow::anyhow!(
        "read the settings: {}",
        lines.collect::<Vec<_>>().join("; ")
    )
}

impl Config {
    /// Loads and validates the settings.
    ///
    /// # Errors
    /// Says which key is wrong, where it was set, and what it must be.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut config = Self::read(args.config.as_deref())?;
        config.apply(args);
        config.validate()?;
        Ok(config)
    }

    /// Loads the settings without flags.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            anyhow::ensure!(
                file.is_file(),
                "the config file {} does not exist",
                file.display()
            );
            figment = figment.merge(Toml::file_exact(file));
        }
        // FANLIGHT_CONFIG names the file itself.
        let env = Env::prefixed("FANLIGHT_").ignore(&["config"]).split("__");
        figment = figment.merge(env);
        // A secret made of digits is a text all the same.
        for (variable, key) in SECRETS {
            if let Ok(secret) = std::env::var(variable) {
                figment = figment.merge((key, secret));
            }
        }
        figment.extract().map_err(explain)
    }

    fn apply(&mut self, args: &ServeArgs) {
        let args = args.clone();
        set(&mut self.data_dir, args.data_dir);
        set(&mut self.http.listen, args.http);
        set(&mut self.media.udp_port, args.udp_port);
        set(&mut self.log.filter, args.log);
        if let Some(bucket) = args.recording_s3_bucket {
            let s3 = self.egress.recording.s3.get_or_insert_default();
            s3.bucket = bucket;
            set(&mut s3.region, args.recording_s3_region);
            set(&mut s3.prefix, args.recording_s3_prefix);
            s3.endpoint = args.recording_s3_endpoint.or(s3.endpoint.take());
        }
        if !args.public_ip.is_empty() {
            self.media.public_ips = args.public_ip;
        }
        if args.tls_cert.is_some() {
            self.http.tls_cert = args.tls_cert;
            self.http.tls_key = args.tls_key;
            self.http.tls_self_signed = false;
        }
        if args.tls_self_signed {
            self.http.tls_self_signed = true;
            self.http.tls_cert = None;
            self.http.tls_key = None;
        }
    }

    fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.http.drain_seconds <= 300,
            "http.drain_seconds must be 0 to 300"
        );
        tracing_subscriber::EnvFilter::try_new(&self.log.filter)
            .with_context(|| format!("log.filter `{}` is not a filter", self.log.filter))?;
        self.http.tls()?;
        self.media.validate().context("check [media]")?;
        self.signaling
            .validate()
            .map_err(anyhow::Error::msg)
            .context("check [signaling]")?;
        self.egress.validate().context("check [egress]")?;
        Ok(())
    }

    /// Writes the settings to standard output as TOML, secrets hidden.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let text = toml::to_string_pretty(self).context("write the settings")?;
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("write to standard output")
    }
}

impl Http {
    /// Returns how HTTP is secured.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub(crate) fn tls(&self) -> anyhow::Result<Tls> {
        match (&self.tls_cert, &self.tls_key, self.tls_self_signed) {
            (None, None, false) => Ok(Tls::Off),
            (None, None, true) => Ok(Tls::SelfSigned),
            (Some(cert), Some(key), false) => Ok(Tls::Files {
                cert: cert.clone(),
                key: key.clone(),
            }),
            (Some(_), Some(_), true) => {
                anyhow::bail!("http.tls_self_signed and http.tls_cert exclude each other")
            }
            _ => anyhow::bail!("http.tls_cert and http.tls_key belong together"),
        }
    }
}

/// The environment variables of secrets, and their settings.
const SECRETS: [(&str, &str); 2] = [
    ("FANLIGHT_SIGNALING__TOKEN_SECRET", "signaling.token_secret"),
    ("FANLIGHT_SIGNALING__TURN__SECRET", "signaling.turn.secret"),
];

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, args: ServeArgs) -> anyhow::Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Config::load(&ServeArgs {
            config: Some(file.path().into()),
            ..args
        })
    }

    #[test]
    fn flags_win_over_the_file() {
        let args = ServeArgs {
            udp_port: Some(7001),
            ..ServeArgs::default()
        };
        let config = load("[media]\nudp_port = 7100\nmax_peers = 7\n", args).unwrap();
        assert_eq!((config.media.udp_port, config.media.max_peers), (7001, 7));
    }

    #[test]
    fn a_bucket_of_recordings_is_named_on_the_command_line_or_in_the_file() {
        let args = ServeArgs {
            recording_s3_bucket: Some("talks".into()),
            recording_s3_prefix: Some("live/".into()),
            ..ServeArgs::default()
        };
        let toml =
            "[egress.recording.s3]\nbucket = 'b'\nregion = 'r'\nendpoint = 'http://s3:9000'\n";
        let config = load(toml, args).unwrap();
        let s3 = config.egress.recording.s3.unwrap();
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("talks", "live/"));
        assert_eq!(s3.region, "r");
        assert_eq!(s3.endpoint.as_deref(), Some("http://s3:9000"));
        let no_bucket = "[egress.recording.s3]\nprefix = 'p'\n";
        assert!(load(no_bucket, ServeArgs::default()).is_err());
    }

    #[test]
    fn unknown_keys_are_named() {
        for toml in [
            "colour = 1",
            "[http]\ncolour = 1",
            "[media]\ncolour = 1",
            "[egress]\ncolour = 1",
        ] {
            let error = format!("{:#}", load(toml, ServeArgs::default()).unwrap_err());
            assert!(error.contains("colour"), "{toml}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let args = ServeArgs {
            config: Some("/nowhere/fanlight.toml".into()),
            ..ServeArgs::default()
        };
        let error = Config::load(&args).unwrap_err().to_string();
        assert!(error.contains("/nowhere/fanlight.toml"), "{error}");
    }

    #[test]
    fn the_printed_settings_are_a_valid_file() {
        let text = toml::to_string_pretty(&Config::default()).unwrap();
        load(&text, ServeArgs::default()).unwrap();
    }

    #[test]
    fn half_a_certificate_is_an_error() {
        assert!(load("[http]\ntls_cert = 'a.pem'", ServeArgs::default()).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fanlight.toml");
        for (text, words) in [
            ("[signaling.chat]\nguets = true", "signaling.chat.guets in "),
            ("[media]\nudp_port = \"x\"", "media.udp_port in "),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Config::read(Some(&file)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = figment::Error::from(Kind::UnknownField("udp_prot".to_owned(), &["udp_port"]));
        let error = explain(error.with_path("media.udp_prot")).to_string();
        assert!(error.contains("FANLIGHT_MEDIA__UDP_PROT"), "{error}");
        assert!(error.contains("there are udp_port"), "{error}");
    }

    #[test]
    fn every_setting_is_documented_with_its_variable_and_default() {
        let page = include_str!("../docs/configuration.md");
        let mut config = Config::default();
        config.egress.recording.s3 = Some(egress::S3Config::default());
        let defaults = toml::Value::try_from(config).unwrap();
        let settings = settings(&mut Vec::new(), &defaults);
        assert!(settings.len() > 50, "{settings:?}");
        let rows: Vec<&str> = page.lines().filter(|l| l.contains("`FANLIGHT_")).collect();
        for row in &settings {
            let is_there = rows.iter().any(|line| line.starts_with(row));
            assert!(is_there, "docs/configuration.md has no row {row}");
        }
        for row in rows.iter().filter(|row| row.starts_with('|')) {
            let is_real = settings.iter().any(|setting| row.starts_with(setting));
            assert!(is_real, "there is no setting as in {row}");
        }
    }

    /// Returns how the row of each setting of a section begins.
    fn settings(section: &mut Vec<String>, defaults: &toml::Value) -> Vec<String> {
        let mut rows = Vec::new();
        for key in keys(section) {
            let default = defaults.get(&key);
            section.push(key.clone());
            if keys(section).is_empty() {
                let variable = section.join("__").to_uppercase();
                let default = match default {
                    None => "none".to_owned(),
                    Some(toml::Value::String(text)) if text.is_empty() && key == "bucket" => {
                        "none".to_owned()
                    }
                    Some(value) => format!("`{value}`"),
                };
                rows.push(format!("| `{key}` | `FANLIGHT_{variable}` | {default} |"));
            } else {
                let none = toml::Value::Table(toml::Table::new());
                rows.extend(settings(section, default.unwrap_or(&none)));
            }
            section.pop();
        }
        rows
    }

    /// Returns the keys of a section, those without a default too, as the refusal of an unknown one names them;
    /// none of what is no section.
    fn keys(section: &[String]) -> Vec<String> {
        let text = match section {
            [] => "colour = 1".to_owned(),
            section => format!("[{}]\ncolour = 1", section.join(".")),
        };
        let error = toml::from_str::<Config>(&text).unwrap_err();
        let words = error.message().strip_prefix("unknown field `colour`, ");
        let words = words.unwrap_or_default().split('`');
        words.skip(1).step_by(2).map(str::to_owned).collect()
    }
}
