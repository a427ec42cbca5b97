//! The ring from outside: its API, threads, processes, damaged files, C.

mod c;
mod common;
mod damaged;
mod permissions;
mod processes;
mod readers;
mod ring;
mod threads;
