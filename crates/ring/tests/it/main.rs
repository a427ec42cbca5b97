//! The ring from outside: its API, threads, processes, damaged files, C.

mod c;
mod common;
mod damaged;
mod processes;
mod ring;
mod threads;
