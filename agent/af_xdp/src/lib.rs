//! AF_XDP sockets: a UMEM, its four rings and the socket that binds them to a queue.
