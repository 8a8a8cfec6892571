//! `update`: limits as JSON, or one by one as runc's flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::container;
use gabion_common::cli::{Global, log};
use gabion_core::request::{Read, parse_resources};
use gabion_core::size::Size;
use gabion_see::audit::record::Action;
use gabion_see::bundle::read_any;
use gabion_see::error::{Error, Result};

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion update --memory 512m --pids-limit 200 web\n  gabion update -r limits.json web\n  \
    echo '{\"cpu\":{\"shares\":512}}' | gabion update -r - web"
)]
pub(super) struct Args {
    /// Read linux.resources as JSON from this file, or - for stdin; other limits are not looked at then
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    resources: Option<PathBuf>,
    /// Memory, in bytes or with k, m, g; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<Given<Bytes>>,
    /// Memory that is left to the container under pressure
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<Given<Bytes>>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<Given<Bytes>>,
    /// Kernel memory for TCP buffers (cgroup v1)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    kernel_memory_tcp: Option<Given<Bytes>>,
    /// Taken for runc's sake: the kernel limits no kernel memory any more
    #[arg(long, value_name = "SIZE", hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<OsString>,
    /// Period of the CPU quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<Given<u64>>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<Given<i64>>,
    /// CPU time that may be saved up, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<Given<u64>>,
    /// CPU weight against others
    #[arg(long, alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<Given<u64>>,
    /// Period of real-time scheduling, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<Given<u64>>,
    /// Real-time CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<Given<i64>>,
    /// 1: run only where nobody else wants the CPU
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<Given<i64>>,
    /// CPUs, as a list
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<Given<String>>,
    /// Memory nodes, as a list
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<Given<String>>,
    /// Tasks
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<Given<i64>>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<Given<u16>>,
    /// Intel RDT is not used
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<Given<String>>,
    /// Intel RDT is not used
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<Given<String>>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let id = super::id(&self.id)?;
        let asked = match &self.resources {
            Some(file) => from_file(file)?,
            None => Read {
                value: self.flags()?,
                odd: Vec::new(),
            },
        };
        let settings = global.settings();
        container::update(&settings, &id, &asked).inspect_err(|error| {
            if let Ok(Some(trail)) = super::trail(&settings, &id) {
                trail.failed(Action::Update, error);
            }
        })?;
        Ok(0)
    }

    fn flags(&self) -> Result<LinuxResources> {
        if given(&self.l3_cache_schema).or(given(&self.mem_bw_schema)).is_some() {
            return Err(Error::Unsupported {
                field: "linux.intelRdt".to_owned(),
                why: "gabion does not use resctrl".to_owned(),
            });
        }
        let mut resources = LinuxResources::default();
        resources
            .set_devices(None)
            .set_memory(self.memory_section())
            .set_cpu(self.cpu_section())
            .set_pids(given(&self.pids_limit).map(|limit| *LinuxPids::default().set_limit(limit)))
            .set_block_io(given(&self.blkio_weight).map(|weight| {
                let mut io = LinuxBlockIo::default();
                io.set_weight(Some(weight));
                io
            }));
        if self.kernel_memory.is_some() {
            // runc's words.
            log::warn("Kernel memory settings are ignored and will be removed: no kernel limits it any more");
        } else if resources == *LinuxResources::default().set_devices(None) {
            return Err(Error::Usage(
                "update needs a limit: --resources FILE, or one by one; see --help".to_owned(),
            ));
        }
        Ok(resources)
    }

    fn memory_section(&self) -> Option<LinuxMemory> {
        let number = |bytes| given(bytes).map(|Bytes(number)| number);
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(number(&self.memory))
            .set_reservation(number(&self.memory_reservation))
            .set_swap(number(&self.memory_swap))
            .set_kernel_tcp(number(&self.kernel_memory_tcp));
        (memory != LinuxMemory::default()).then_some(memory)
    }

    fn cpu_section(&self) -> Option<LinuxCpu> {
        let mut cpu = LinuxCpu::default();
        cpu.set_period(given(&self.cpu_period))
            .set_quota(given(&self.cpu_quota))
            .set_burst(given(&self.cpu_burst))
            .set_shares(given(&self.cpu_share))
            .set_realtime_period(given(&self.cpu_rt_period))
            .set_realtime_runtime(given(&self.cpu_rt_runtime))
            .set_idle(given(&self.cpu_idle))
            .set_cpus(given(&self.cpuset_cpus))
            .set_mems(given(&self.cpuset_mems));
        (cpu != LinuxCpu::default()).then_some(cpu)
    }
}

fn from_file(file: &Path) -> Result<Read<LinuxResources>> {
    let text = read_any(file)?;
    let name = if file == Path::new("-") {
        Path::new("the limits on stdin")
    } else {
        file
    };
    Ok(parse_resources(&text, name)?)
}

/// A flag's value. An empty one is a flag that was not given, as runc has it: scripts write `--memory "$LIMIT"`.
#[derive(Clone, Copy, Debug)]
struct Given<T>(Option<T>);

impl<T: FromStr> FromStr for Given<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> std::result::Result<Self, T::Err> {
        match text {
            "" => Ok(Self(None)),
            _ => text.parse().map(|value| Self(Some(value))),
        }
    }
}

fn given<T: Clone>(flag: &Option<Given<T>>) -> Option<T> {
    flag.as_ref().and_then(|Given(value)| value.clone())
}

/// `512m`; `-1` is unlimited, and no other negative number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes(i64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "-1" {
            return Ok(Self(-1));
        }
        let size: Size = text.parse().map_err(|e: gabion_core::size::SizeError| e.to_string())?;
        i64::try_from(size.0)
            .map(Self)
            .map_err(|_| format!("{text:?} is too large"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_have_a_unit() {
        for (text, number) in [
            ("1024", Some(1024)),
            ("-1", Some(-1)),
            ("512M", Some(512 << 20)),
            ("x", None),
            ("", None),
            ("-2", None),
            ("+5", None),
            ("1.5", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(text.parse().ok(), number.map(Bytes), "{text}");
        }
    }

    #[test]
    fn flags_make_the_sections_that_they_name() {
        let args = Args {
            memory: Some(Given(Some(Bytes(1)))),
            cpu_share: Some(Given(Some(2))),
            pids_limit: Some(Given(Some(-1))),
            cpu_quota: Some("".parse().unwrap()),
            ..Args::default()
        };
        let resources = args.flags().unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(1));
        assert_eq!(resources.cpu().as_ref().unwrap().shares(), Some(2));
        assert_eq!(resources.pids().unwrap().limit(), -1);
        assert!(resources.block_io().is_none() && resources.devices().is_none());
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), None);
        assert!(Args::default().flags().is_err());
        let cache = Args {
            l3_cache_schema: Some(Given(Some("L3:0=f".to_owned()))),
            memory: Some(Given(Some(Bytes(1)))),
            ..Args::default()
        };
        assert_eq!(cache.flags().unwrap_err().code(), "bundle.unsupported");
    }
}
