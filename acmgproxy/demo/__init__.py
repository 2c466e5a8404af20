# SPDX-License-Identifier: Apache-2.0
"""`acmgproxy demo`: the whole gateway at work on one machine, without a cluster.

Real processes throughout: four helloworld servers, a gateway run by `acmgproxy run` on a copy of
deploy/samples/helloworld-laptop, and a client that counts every answer. While requests flow, the demo edits the VirtualService
and kills servers; a request that fails makes the exit code 1.

    scenario   what happens and in which order; the result
    sample     the sample's files, with addresses that are free here
    processes  starting, killing and cleaning up children
    traffic    the client and what it counted
    gateway    the gateway's admin server as a client sees it
    view       what a person sees of it
    helloworld the server, a program of its own
"""
