//! nginx, one process per server address, each with its own name in its answers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::data::Sample;
use super::super::plan::WEB_PORT;
use crate::interrupt;
use crate::process::{self, Background};

/// A running web server and the folder it serves.
pub(crate) struct Nginx {
    pub(crate) name: String,
    folder: PathBuf,
    process: Background,
}

impl Nginx {
    /// Starts one in `namespace` on all of `addresses`. It answers `/who` with its name, `/r` with a small body, files from
    /// its folder, and takes `PUT /upload/…`.
    pub(crate) fn start(
        namespace: &str,
        name: &str,
        addresses: &[IpAddr],
        folder: &Path,
    ) -> Result<Self> {
        let folder = folder.join(format!("nginx-{name}"));
        std::fs::create_dir_all(folder.join("files/upload"))?;
        std::fs::create_dir_all(folder.join("scratch"))?;
        let listen = addresses
            .iter()
            .map(|address| {
                format!(
                    "    listen {} backlog=4096;\n",
                    SocketAddr::new(*address, WEB_PORT)
                )
            })
            .collect::<String>();
        let config = folder.join("nginx.conf");
        std::fs::write(&config, configuration(&folder, name, &listen)).context("nginx.conf")?;
        let mut command = process::inside(namespace, "nginx");
        command
            .arg("-p")
            .arg(&folder)
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(&config);
        let mut process = Background::start(&format!("nginx-{name}"), &mut command, &folder)?;
        let Some(first) = addresses.first() else {
            anyhow::bail!("nginx {name} has no address")
        };
        let url = format!("http://{}/who", SocketAddr::new(*first, WEB_PORT));
        interrupt::wait_until("nginx", Duration::from_secs(15), || {
            process
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            let mut curl = process::inside(namespace, "curl");
            curl.args(["-s", "--fail", "--max-time", "2", &url]);
            match process::finish(&mut curl, Duration::from_secs(5)) {
                Ok(finished) if finished.success() => Ok(()),
                Ok(finished) => Err(format!("curl: {}", finished.status)),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            process,
        })
    }

    /// Makes a sample downloadable under `path`.
    pub(crate) fn offer(&self, sample: &Sample, path: &str) -> Result<()> {
        let link = self.folder.join("files").join(path);
        std::os::unix::fs::symlink(&sample.path, &link).with_context(|| link.display().to_string())
    }

    /// Where `PUT /upload/NAME` lands.
    pub(crate) fn uploaded(&self, name: &str) -> PathBuf {
        self.folder.join("files/upload").join(name)
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(self) {
        self.process.kill();
    }
}

fn configuration(folder: &Path, name: &str, listen: &str) -> String {
    let folder = folder.display();
    // 70 bytes of body: the size of a small API answer, the same as in the reference measurements.
    let body = format!("{name:-<69}");
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 16384;\n\
         pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         \x20 access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 100000000;\n\
         \x20 client_max_body_size 0;\n  client_body_buffer_size 1m;\n\
         \x20 client_body_temp_path {folder}/scratch/body;\n  proxy_temp_path {folder}/scratch/proxy;\n\
         \x20 fastcgi_temp_path {folder}/scratch/fastcgi;\n  uwsgi_temp_path {folder}/scratch/uwsgi;\n\
         \x20 scgi_temp_path {folder}/scratch/scgi;\n\
         \x20 server {{\n{listen}\
         \x20   root {folder}/files;\n\
         \x20   location = /who {{ return 200 \"{name}\\n\"; }}\n\
         \x20   location = /r {{ return 200 \"{body}\\n\"; }}\n\
         \x20   location /upload/ {{ dav_methods PUT; }}\n\
         \x20 }}\n}}\n"
    )
}
