//! A PostgreSQL server in a temporary directory, which ends with the tests.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The server's settings besides the defaults.
const SETTINGS: &str = "
listen_addresses = ''
max_connections = 200
shared_buffers = 32MB
wal_level = replica
max_wal_senders = 8
wal_keep_size = 64MB
hot_standby = on
log_min_messages = warning
";

/// A server. Its socket is in its directory.
pub(crate) struct Server {
    directory: PathBuf,
    /// It runs while this is open.
    running: Option<ChildStdin>,
    shell: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        let _ = self.shell.wait();
    }
}

/// The directory of the programs.
pub(crate) fn programs() -> PathBuf {
    if let Some(named) = env::var_os("TESSERA_POSTGRES_BIN") {
        return named.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("no PostgreSQL: install Debian's `postgresql`, or set TESSERA_POSTGRES_BIN")
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt;
        metadata.uid() == 0
    })
}

/// PostgreSQL refuses to run as root.
pub(crate) fn unprivileged(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.current_dir("/").output().expect("the program runs");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A new directory of the server's user.
pub(crate) fn directory() -> PathBuf {
    let made = run(unprivileged("mktemp").args(["-d", "-t", "tessera-postgres-XXXXXX"]));
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
}

/// A file that only the server's user can read, removed when it is dropped.
pub(crate) struct PrivateFile(pub(crate) PathBuf);

impl PrivateFile {
    pub(crate) fn with(text: &str) -> Self {
        let script = "umask 077; file=$(mktemp -t tessera-postgres-XXXXXX); printf '%s' \"$1\" >\"$file\"; echo \"$file\"";
        let made = run(unprivileged("sh").args(["-c", script, "sh", text]));
        Self(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Server {
    /// Creates one, and starts it.
    pub(crate) fn start(settings: &str) -> Self {
        let directory = directory();
        let data = directory.join("data");
        let initdb = programs().join("initdb");
        run(unprivileged(initdb.to_str().unwrap())
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data));
        append(
            &data.join("postgresql.auto.conf"),
            &format!("{SETTINGS}\n{settings}\n"),
        );
        Self::serve(directory)
    }

    /// A standby of `self`, which knows it as `name`.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let directory = directory();
        let data = directory.join("data");
        let basebackup = programs().join("pg_basebackup");
        let primary = format!(
            "host={} user=postgres application_name={name}",
            self.directory.display()
        );
        run(unprivileged(basebackup.to_str().unwrap())
            .args(["--no-sync", "-c", "fast", "-R", "-d"])
            .arg(primary)
            .arg("-D")
            .arg(&data));
        Self::serve(directory)
    }

    fn serve(directory: PathBuf) -> Self {
        let postgres = programs().join("postgres");
        // It ends when its input is closed, however the tests end.
        let script = "cd /; \"$1\" -D \"$2/data\" -k \"$2\" >\"$2/log\" 2>&1 & server=$!; \
            echo $server >\"$2/pid\"; read -r _; kill -CONT $server 2>/dev/null; kill -QUIT $server 2>/dev/null; \
            wait $server; rm -rf \"$2\"";
        let mut shell = unprivileged("sh")
            .args(["-c", script, "sh"])
            .arg(postgres)
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .expect("a shell starts");
        let running = shell.stdin.take().unwrap();
        let server = Self {
            directory,
            running: Some(running),
            shell,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let is_ready = programs().join("pg_isready");
        let begun = Instant::now();
        let is_there = || {
            let asked = Command::new(&is_ready).arg("-h").arg(&self.directory).output();
            asked.unwrap().status.success()
        };
        while !is_there() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of its first process.
    pub(crate) fn process(&self) -> String {
        let pid = fs::read_to_string(self.directory.join("pid")).unwrap();
        pid.trim().to_owned()
    }

    /// Sends a signal to the server: `KILL`, `STOP`, `CONT`. All of its processes are stopped, or continue.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process();
        if signal != "KILL" {
            let children = Command::new("pkill")
                .args([&format!("-{signal}"), "-P", &process])
                .status();
            assert!(children.is_ok(), "pkill runs");
        }
        run(Command::new("kill").args([&format!("-{signal}"), &process]));
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.sql("SELECT pg_promote(true, 60)");
    }

    /// Runs a statement as the administrator, and returns its rows, as `psql` writes them.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let output = run(self.psql().args(["-c", statement]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `psql`, as the administrator.
    pub(crate) fn psql(&self) -> Command {
        let mut psql = Command::new(programs().join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-h",
        ]);
        psql.arg(&self.directory);
        psql
    }

    /// The clients' connection string.
    pub(crate) fn url(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.directory.display())
    }

    /// The directory of its socket.
    pub(crate) fn place(&self) -> &Path {
        &self.directory
    }

    /// The socket that it listens at.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    /// The connection string for this server and another, of which clients use the primary.
    pub(crate) fn url_with(&self, other: &Self) -> String {
        let (one, other) = (self.directory.display(), other.directory.display());
        format!("host={one},{other} user=postgres dbname=postgres")
    }

    /// The server's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
