# SPDX-License-Identifier: Apache-2.0
"""A Service with rules of every kind, as files, for the tests of `acmgctl route` and `acmgctl config`."""

from __future__ import annotations

__all__ = ["REVIEWS"]

REVIEWS = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {clusterIP: 127.0.0.9, ports: [{name: http, port: 9080}], selector: {app: reviews}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, namespace: default, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, zone: a, targetRef: {kind: Pod, name: reviews-v1-0, namespace: default}}
- {addresses: [10.1.0.2], conditions: {ready: true}, zone: b, targetRef: {kind: Pod, name: reviews-v2-0, namespace: default}}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1-0, namespace: default, labels: {app: reviews, version: v1}}
status: {phase: Running, podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v2-0, namespace: default, labels: {app: reviews, version: v2}}
status: {phase: Running, podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: sleep-77f-abcde, namespace: default, labels: {app: sleep}}
status: {phase: Running, podIP: 10.1.0.7}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - name: legacy
    match: [{port: 8080}]
    route: [{destination: {host: reviews}}]
  - name: cron
    match: [{sourceLabels: {app: cron}, uri: {prefix: /x}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
    route: [{destination: {host: reviews}}]
  - name: jason
    match: [{headers: {end-user: {exact: jason}}}]
    timeout: 10s
    rewrite: {uri: /v2}
    headers: {request: {set: {x-who: jason}}}
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /api}}]
    redirect: {uri: /v3/api}
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v3}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: default}
spec: {hosts: [ext.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"""
