"""The embedded cloud: the AWS services of the pipeline on one loopback port, without an account, Docker or root rights.

MiniStack answers SQS, SNS, Lambda, DynamoDB, CloudWatch Logs, IAM, STS and SSM; moto answers EC2, CloudWatch metrics and alarms, and
the public SSM parameters. Both run in this process, behind one router that decides by the service in the signature.

`python -m embedded_cloud --help` starts it. Nothing here imports an emulator before `environment.prepare` has run.
"""
